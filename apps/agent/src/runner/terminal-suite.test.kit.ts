import type { Socket } from 'node:net';
import { terminalSchema } from '@backend.ai/contract';
import { encodeTerminalFrame, type FrameToTerminal, TerminalFrames } from '@backend.ai/rpc';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type TestKernel, until } from './runner.test.kit.ts';
import type { RunnerClient } from './runner-client.ts';

/** Somebody who looks at a terminal: what they see, and their keyboard. */
class Looker {
  seen = '';
  exitCode: number | undefined;
  isOver = false;
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
    const frames = new TerminalFrames();
    socket.on('data', (chunk: Buffer) => {
      for (const frame of frames.push(chunk) ?? []) {
        if (frame.kind === 'output') this.seen += frame.data.toString('utf8');
        else this.exitCode = frame.exitCode;
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.isOver = true;
    });
  }

  send(frame: FrameToTerminal): void {
    this.#socket.write(encodeTerminalFrame(frame));
  }

  type(text: string): void {
    this.send({ kind: 'input', data: Buffer.from(text) });
  }

  /** What is typed is echoed: look for what only the shell can have made of it. */
  sees(text: string | RegExp): Promise<void> {
    return until(`${text} in ${JSON.stringify(this.seen.slice(-200))}`, () =>
      typeof text === 'string' ? this.seen.includes(text) : text.test(this.seen),
    );
  }

  pause(): void {
    this.#socket.pause();
  }

  leave(): void {
    this.#socket.destroy();
  }
}

/** One behaviour suite for the terminals of all runners, of this machine and in containers. */
export function terminalSuite(title: string, newKernel: () => Promise<TestKernel>): void {
  describe(title, () => {
    async function kernelWithLooks(): Promise<{
      client: RunnerClient;
      look: (options?: { name?: string; rows?: number; cols?: number }) => Promise<Looker>;
    }> {
      const kernel = await newKernel();
      onTestFinished(() => kernel.stop());
      const client = await kernel.connect();
      const look = async (options = {}): Promise<Looker> => {
        const looker = new Looker(await client.openTerminal(terminalSchema.parse(options)));
        onTestFinished(() => looker.leave());
        return looker;
      };
      return { client, look };
    }

    it('is a shell on a terminal of the size that was asked for, and takes another one', async () => {
      const { look } = await kernelWithLooks();
      const looker = await look({ rows: 31, cols: 97 });
      looker.type('stty size; test -t 0 && echo on-"$TERM"\n');
      await looker.sees(/31 97\r\n/);
      await looker.sees('on-xterm-256color');
      looker.send({ kind: 'size', rows: 12, cols: 34 });
      await until('the new size', () => {
        looker.type('stty size\n');
        return /12 34\r\n/.test(looker.seen);
      });
    });

    it('goes on while nobody looks, and shows its last output to who comes back', async () => {
      const { look } = await kernelWithLooks();
      const first = await look();
      first.type('secret=kept; echo a$((20 + 3))b\n');
      await first.sees('a23b');
      first.leave();
      const second = await look();
      await second.sees('a23b');
      second.type('echo "<$secret>"\n');
      await second.sees('<kept>');
    });

    it('has several, which do not see each other; two may look at one', async () => {
      const { look } = await kernelWithLooks();
      const [main, other, beside] = [await look(), await look({ name: 'other' }), await look()];
      main.type('echo in-$((1 + 1))-main\n');
      await main.sees('in-2-main');
      await beside.sees('in-2-main');
      expect(other.seen).not.toContain('in-2-main');
    });

    it('tells the exit code of its shell, and the next one to come finds a new shell', async () => {
      const { look } = await kernelWithLooks();
      const looker = await look();
      looker.type('gone=1; exit 3\n');
      await until('the end', () => looker.isOver);
      expect(looker.exitCode).toBe(3);
      const next = await look();
      next.type('echo "<$gone>"\n');
      await next.sees('<>');
    });

    it('is started again on request, for those who look', async () => {
      const { look } = await kernelWithLooks();
      const looker = await look();
      looker.type('stuck=1; echo up-$((1 + 1)); sleep 1000\n');
      await looker.sees('up-2');
      looker.send({ kind: 'restart' });
      await until('another shell', () => {
        looker.type('echo "<$stuck>"\n');
        return looker.seen.includes('<>');
      });
      expect(looker.isOver).toBe(false);
    });

    it('is interrupted by the key for it', async () => {
      const { look } = await kernelWithLooks();
      const looker = await look();
      looker.type('echo up-$((1 + 1)); sleep 1000\n');
      await looker.sees('up-2');
      // A shell that is just starting a program loses the signal: people press again.
      // Not at once: the key takes back what was typed before it and not read yet.
      await waitFor(
        () => {
          looker.type('\x03echo free-$((1 + 1))\n');
          return waitFor(() => looker.seen.includes('free-2'), { timeoutMs: 1_000 }).catch(() => false);
        },
        { what: 'a free shell' },
      );
    });

    it('keeps the last 64 KiB only, however much was printed', async () => {
      const { look } = await kernelWithLooks();
      const first = await look();
      first.type('seq 1 40000; echo all-$((1 + 1))\n');
      await first.sees('all-2');
      first.leave();
      const second = await look();
      await second.sees('all-2');
      expect(second.seen.length).toBeLessThan(70_000);
      expect(second.seen).toContain('39999');
    });

    it('leaves executions alone', async () => {
      const { client, look } = await kernelWithLooks();
      const looker = await look();
      looker.type('echo $((20 + 3))\n');
      await client.execute('beside', { mode: 'batch', exec: 'echo done' });
      await until('the end of the run', async () => {
        const result = await client.collect('beside', 0, { flushMs: 0, holdMs: 100 });
        return result.status === 'finished' && result.exitCode === 0;
      });
      await looker.sees('23');
    });
  });
}

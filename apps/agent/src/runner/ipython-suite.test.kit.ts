/** One behaviour suite for Python with ipykernel: of this machine, and of our image in a container. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type TestKernel, until, untilOutput } from './runner.test.kit.ts';
import type { RunnerClient } from './runner-client.ts';

export interface IPythonSuite {
  readonly title: string;
  /** @param modules A folder where Python looks first. */
  readonly newKernel: (modules?: string) => Promise<TestKernel>;
  /** Tests for which no ipykernel is there. */
  readonly isMissing?: boolean;
}

export function ipythonSuite({ title, newKernel, isMissing = false }: IPythonSuite): void {
  describe.skipIf(isMissing)(title, () => {
    let kernel: TestKernel;
    let client: RunnerClient;
    beforeAll(async () => {
      kernel = await newKernel();
      client = await kernel.connect();
      expect(await kernel.finish(client, 'get_ipython().__class__.__name__')).toMatchObject({
        exitCode: 0,
        stdout: "'ZMQInteractiveShell'\n",
      });
    }, 60_000);
    afterAll(() => kernel?.stop());

    it('keeps state between executions, and shows output and results in order', async () => {
      await kernel.finish(client, 'x = 41');
      const outcome = await kernel.finish(
        client,
        'import sys\nprint("a")\nprint("b", file=sys.stderr)\nprint("c")\nx + 1',
      );
      expect(outcome).toMatchObject({ exitCode: 0, stdout: 'a\nc\n42\n', stderr: 'b\n' });
    });

    it('keeps pictures and HTML', async () => {
      const code = `
from IPython.display import HTML, SVG, Image, display
display(HTML('<b>bold</b>'))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg"></svg>'))
Image(data=bytes([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]), format='png')`;
      const { items, exitCode } = await kernel.finish(client, code);
      expect(exitCode).toBe(0);
      expect(items.map(([kind]) => kind)).toEqual(['html', 'svg', 'media']);
      expect(items[0]?.[1]).toBe('<b>bold</b>');
      expect(items[2]?.[1]).toEqual(['image/png', 'iVBORw0KGgo=']);
    });

    it('shows what is printed after a picture or page after it', async () => {
      const code = 'for turn in range(50):\n  display(HTML("<b>"))\n  print(turn, flush=True)';
      const { items } = await kernel.finish(client, `from IPython.display import HTML, display\n${code}`);
      const turns = Array.from({ length: 50 }, (_, turn) => ['html', '<b>', 'stdout', `${turn}\n`]);
      expect(items.flat()).toEqual(turns.flat());
    });

    it('tells errors, exits and their codes', async () => {
      const failed = await kernel.finish(client, '1 / 0');
      expect(failed).toMatchObject({ exitCode: 1, stdout: '' });
      expect(failed.stderr).toContain('ZeroDivisionError: division by zero');
      expect(failed.stderr).not.toContain('\x1b');
      expect(await kernel.finish(client, 'import sys; sys.exit(3)')).toMatchObject({ exitCode: 3 });
      expect(await kernel.finish(client, 'print(x)')).toMatchObject({ exitCode: 0, stdout: '41\n' });
    });

    it('answers questions, those for passwords, and the end of the input', async () => {
      const runId = kernel.nextRunId();
      const code = 'import getpass\na = input("name? ")\nb = getpass.getpass("word? ")\nprint(a, b)\ninput()';
      const asked = await kernel.finish(client, code, runId);
      expect(asked).toMatchObject({ status: 'waiting-input', stdout: 'name? ', options: { is_password: false } });
      await client.input(runId, 'me\n');
      const second = await kernel.follow(client, runId, asked.cursor);
      expect(second).toMatchObject({ status: 'waiting-input', stdout: 'word? ', options: { is_password: true } });
      await client.input(runId, 'secret\n');
      const third = await kernel.follow(client, runId, second.cursor);
      expect(third).toMatchObject({ status: 'waiting-input', stdout: 'me secret\n' });
      await client.input(runId, '', { eof: true });
      const end = await kernel.follow(client, runId, third.cursor);
      expect(end.exitCode).toBe(1);
      expect(end.stderr).toContain('EOFError');
    });

    it('is interrupted and keeps its state', async () => {
      const runId = kernel.nextRunId();
      await client.execute(runId, { mode: 'query', code: 'kept = 5\nprint("up")\nwhile True: pass' });
      await untilOutput(client, runId);
      expect(await client.interrupt()).toBe(true);
      expect(await kernel.follow(client, runId, 0)).toMatchObject({ exitCode: 130 });
      expect(await kernel.finish(client, 'kept')).toMatchObject({ stdout: '5\n' });
    });

    it('completes names of its own state with whole words', async () => {
      await kernel.finish(client, 'import os\nlonely_name = 1');
      await until('completions', async () => (await client.complete('lonely_n')).includes('lonely_name'));
      expect(await client.complete('x = os.path.basen')).toContain('os.path.basename');
    });

    it('has its own channels as files that only its user may use, and no port', async () => {
      const { ip, transport } = JSON.parse(readFileSync(join(kernel.run, 'ipython.json'), 'utf8'));
      expect(transport).toBe('ipc');
      expect(existsSync(join(kernel.run, `${basename(ip)}-1`))).toBe(true);
    });

    it('is started anew when it dies, and the run has the signal', async () => {
      const died = await kernel.finish(client, 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)');
      expect(died).toMatchObject({ exitCode: 137 });
      expect(await kernel.finish(client, 'print("again")')).toMatchObject({ exitCode: 0, stdout: 'again\n' });
    });

    it('that ends while it starts is noticed at once', async () => {
      const modules = brokenModules({ ipykernel: 'raise SystemExit(9)\n' });
      const broken = await newKernel(modules);
      onTestFinished(() => broken.stop());
      const other = await broken.connect();
      expect(await broken.finish(other, 'print(1)')).toMatchObject({ exitCode: 0, stdout: '1\n' });
    });
  });
}

/** A folder of packages, each with this in it, until the test is over. */
export function brokenModules(packages: Readonly<Record<string, string>>): string {
  const modules = mkdtempSync(join(tmpdir(), 'broken-modules-'));
  onTestFinished(() => rmSync(modules, { recursive: true }));
  for (const [name, content] of Object.entries(packages)) {
    mkdirSync(join(modules, name));
    writeFileSync(join(modules, name, '__init__.py'), content);
  }
  chmodSync(modules, 0o755);
  return modules;
}

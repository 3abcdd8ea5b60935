import { ReadStream, WriteStream } from 'node:tty';
import type { Terminal, TerminalOptions } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { SessionCommand } from '../../session-command.ts';

/** Ctrl-]: what telnet uses, and no shell. */
const detachKey = 0x1d;
const endOfInput = '\x04';

export class SessionTerminal extends SessionCommand {
  static override paths = [['session', 'terminal'], ['terminal']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Open a terminal in a session',
    details:
      "The shell belongs to the session: it goes on when you detach with Ctrl-], and shows its last output when you come back. The exit code is the shell's.",
    examples: [
      ['The terminal of a session', '$0 session terminal my-session'],
      ['A second one beside it', '$0 session terminal my-session --terminal logs'],
    ],
  });

  terminal = Option.String('--terminal', { description: 'Name of the terminal, when a session has several' });
  restart = Option.Boolean('--restart', false, { description: 'End its shell and begin with another one' });

  override async perform(): Promise<number> {
    const { stdin, stdout, stderr } = this.context;
    const session = await this.open();
    const terminal = await session.terminal({
      ...sizeOf(stdout),
      name: this.terminal,
      term: termOf(this.context.env.TERM),
    });
    if (this.restart) terminal.restart();
    if (isTerminal(stdin)) stderr.write('Connected. Ctrl-] detaches; the shell goes on.\r\n');
    const stop = [followSize(stdout, terminal), forwardKeys(stdin, terminal)];
    try {
      for await (const chunk of terminal) stdout.write(chunk);
      const { exitCode } = await terminal.ended;
      if (exitCode === null) stderr.write('\r\nDetached. The shell goes on.\n');
      return exitCode ?? 0;
    } finally {
      for (const each of stop) each();
    }
  }
}

function isTerminal(stream: NodeJS.ReadableStream): stream is ReadStream {
  return stream instanceof ReadStream && stream.isTTY;
}

function termOf(name: string | undefined): string | undefined {
  return name !== undefined && /^[A-Za-z0-9+._-]{1,64}$/.test(name) ? name : undefined;
}

function sizeOf(stdout: NodeJS.WritableStream): Pick<TerminalOptions, 'rows' | 'cols'> {
  return stdout instanceof WriteStream && stdout.rows > 0 ? { rows: stdout.rows, cols: stdout.columns } : {};
}

function followSize(stdout: NodeJS.WritableStream, terminal: Terminal): () => void {
  const onResize = (): void => {
    const { rows, cols } = sizeOf(stdout);
    if (rows !== undefined && cols !== undefined) terminal.resize(rows, cols);
  };
  stdout.on('resize', onResize);
  return () => stdout.off('resize', onResize);
}

/** Every key goes to the shell but the one that detaches; the end of a pipe is told as the end of input. */
function forwardKeys(stdin: NodeJS.ReadableStream, terminal: Terminal): () => void {
  const raw = isTerminal(stdin);
  if (raw) stdin.setRawMode(true);
  const onData = (chunk: Buffer): void => {
    const at = raw ? chunk.indexOf(detachKey) : -1;
    if (at !== 0) terminal.write(at < 0 ? chunk : chunk.subarray(0, at));
    if (at >= 0) terminal.detach();
  };
  const onEnd = (): void => terminal.write(endOfInput);
  stdin.on('data', onData);
  stdin.once('end', onEnd);
  return () => {
    stdin.off('data', onData);
    stdin.off('end', onEnd);
    if (raw) stdin.setRawMode(false);
    stdin.pause();
    // A pipe that nobody closes must not keep us alive.
    if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
  };
}

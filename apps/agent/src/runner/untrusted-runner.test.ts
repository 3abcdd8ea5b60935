/** What a user may put in place of the runner's files and words: errors, not crashes, hangs or somebody else's files. */
import { appendFileSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LineSplitter } from './line-splitter.ts';
import { RunnerClient } from './runner-client.ts';
import { parseRecord } from './runner-messages.ts';

let root: string;
let run: string;
let server: Server | undefined;
let client: RunnerClient | undefined;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kernel-'));
  run = join(root, 'run');
  mkdirSync(join(run, 'runs'), { recursive: true });
});
afterEach(() => {
  client?.close();
  server?.close();
  client = server = undefined;
  rmSync(root, { recursive: true, force: true });
});

/** A runner that answers each line with whatever `answer` says. */
async function pretend(answer: (socket: Socket, seq: number) => void): Promise<void> {
  server = createServer((socket) => {
    const lines = new LineSplitter(1 << 20);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      for (const line of lines.push(chunk) ?? []) answer(socket, JSON.parse(line).seq);
    });
  });
  await new Promise<void>((resolve) => server?.listen(join(run, 'runner.sock'), resolve));
}

/** Only who waits for the deadline names one: on a busy machine an answer may take longer than a short one. */
function open(requestTimeoutMs?: number): RunnerClient {
  client = new RunnerClient({ runDirectory: run, requestTimeoutMs });
  return client;
}

const journalOf = (text: string): void => writeFileSync(join(run, 'runs', 'a.jsonl'), text);
const collect = (cursor = 0) => open().collect('a', cursor, { flushMs: 5, holdMs: 50 });

describe('a journal', () => {
  it('is not followed through a link', async () => {
    writeFileSync(join(root, 'secret'), '{"t":"stdout","d":"secret"}\n');
    symlinkSync(join(root, 'secret'), join(run, 'runs', 'a.jsonl'));
    await expect(collect()).rejects.toMatchObject({ code: 'kernel-lost' });
  });

  it('is not read under a second name', async () => {
    writeFileSync(join(root, 'secret'), '{"t":"stdout","d":"secret"}\n');
    linkSync(join(root, 'secret'), join(run, 'runs', 'a.jsonl'));
    await expect(collect()).rejects.toMatchObject({ code: 'kernel-lost' });
  });

  it('is not looked for in a folder that is a link', async () => {
    rmSync(join(run, 'runs'), { recursive: true });
    mkdirSync(join(root, 'elsewhere'));
    writeFileSync(join(root, 'elsewhere', 'a.jsonl'), '{"t":"stdout","d":"secret"}\n');
    symlinkSync(join(root, 'elsewhere'), join(run, 'runs'));
    await expect(collect()).rejects.toMatchObject({ code: 'kernel-lost' });
  });

  it('may not be a folder', async () => {
    mkdirSync(join(run, 'runs', 'a.jsonl'));
    await expect(collect()).rejects.toMatchObject({ code: 'kernel-lost' });
  });

  it.each([
    'no json\n',
    '[]\n',
    'null\n',
    '{"t":"unknown"}\n',
    '{"t":"stdout","d":5}\n',
    '{"t":"finished","x":"0"}\n',
    '{"t":"finished","x":-1}\n',
    '{"t":"media","m":"text/html\\r\\nX: y","d":""}\n',
    '\n',
  ])('with the line %j is reported as damaged', async (text) => {
    journalOf(text);
    await expect(collect()).rejects.toMatchObject({ code: 'kernel-lost' });
  });

  it('with a line beyond the limit is reported as damaged', async () => {
    journalOf('x'.repeat(11 << 20));
    await expect(collect()).rejects.toMatchObject({ code: 'kernel-lost' });
  });

  it('that stops in the middle of a line keeps the reader neither busy nor forever', async () => {
    journalOf('{"t":"stdout","d":"one"}\n{"t":"std');
    const result = await collect();
    expect(result).toMatchObject({ status: 'continued', console: [['stdout', 'one']] });
    appendFileSync(join(run, 'runs', 'a.jsonl'), 'err","d":"two"}\n{"t":"finished","x":0}\n');
    expect(await open().collect('a', result.cursor, { flushMs: 5 })).toMatchObject({
      status: 'finished',
      console: [['stderr', 'two']],
    });
  });

  it('is refused from a cursor inside a record or behind its end', async () => {
    journalOf('{"t":"stdout","d":"one"}\n{"t":"finished","x":0}\n');
    for (const cursor of [3, 10_000, -1, 0.5, Number.NaN]) {
      await expect(collect(cursor)).rejects.toMatchObject({ code: 'invalid-input' });
      client?.close();
    }
  });

  it('gives the same answer to the same cursor, in parts when it is long', async () => {
    const lines = Array.from({ length: 1000 }, (_, i) => `{"t":"stdout","d":"${i}\\n"}\n`);
    journalOf(`${lines.join('')}{"t":"truncated","limit":5}\n{"t":"finished","x":1,"s":"SIGFOO"}\n`);
    const first = await open().collect('a', 0, { flushMs: 5, maxBytes: 4096 });
    expect(first.status).toBe('continued');
    expect(await client?.collect('a', 0, { flushMs: 5, maxBytes: 4096 })).toEqual(first);
    let text = '';
    let cursor = 0;
    for (;;) {
      const part = await client!.collect('a', cursor, { flushMs: 5, maxBytes: 4096 });
      text += part.console.map((item) => item[1]).join('');
      cursor = part.cursor;
      if (part.status === 'finished') {
        expect(part).toMatchObject({ exitCode: 1, truncated: true });
        break;
      }
    }
    expect(text).toBe(Array.from({ length: 1000 }, (_, i) => `${i}\n`).join(''));
  });

  it('of a kernel that ended gives its output and its exit code, also when it is gone', async () => {
    journalOf('{"t":"stdout","d":"last words"}\n');
    const ended = Promise.resolve({ exitCode: 9 });
    const options = { flushMs: 10_000, holdMs: 10_000, ended };
    expect(await open().collect('a', 0, options)).toMatchObject({
      status: 'finished',
      exitCode: 9,
      console: [['stdout', 'last words']],
    });
    expect(await client?.collect('gone', 0, options)).toMatchObject({ status: 'finished', exitCode: 9 });
  });

  it('of a run that is out of time says so', async () => {
    journalOf('{"t":"stdout","d":"x"}\n');
    const options = { flushMs: 10_000, holdMs: 10_000, expired: AbortSignal.timeout(20) };
    expect(await open().collect('a', 0, options)).toMatchObject({ status: 'exec-timeout', exitCode: null });
  });

  it('skips a question that was answered', async () => {
    journalOf('{"t":"waiting-input","p":true}\n');
    expect(await collect()).toMatchObject({ status: 'waiting-input', options: { is_password: true } });
    appendFileSync(join(run, 'runs', 'a.jsonl'), '{"t":"finished","x":0}\n');
    expect(await collect()).toMatchObject({ status: 'finished' });
  });
});

describe('a socket', () => {
  it('is not followed through a link', async () => {
    await pretend((socket, seq) => socket.write(`{"re":${seq},"ok":true}\n`));
    mkdirSync(join(root, 'other'));
    symlinkSync(join(run, 'runner.sock'), join(root, 'other', 'runner.sock'));
    client = new RunnerClient({ runDirectory: join(root, 'other'), requestTimeoutMs: 100 });
    await expect(client.ping()).rejects.toMatchObject({ code: 'deadline-exceeded' });
  });

  it('may be a file', async () => {
    writeFileSync(join(run, 'runner.sock'), 'x');
    await expect(open(200).ping()).rejects.toMatchObject({ code: 'deadline-exceeded' });
  });

  it.each([
    'no json',
    '5',
    'null',
    '{"re":"1","ok":true}',
    '{"re":99,"ok":true}',
    '{"ev":"run","runId":"../x","end":-1,"state":"mad"}',
    '{"re":1,"ok":false,"code":{},"message":{"toString":1}}',
  ])('that says %j is ignored', async (text) => {
    await pretend((socket, seq) => {
      socket.write(`${text}\n`);
      socket.write(`{"re":${seq},"ok":true,"language":"python","version":1,"pid":1,"startedAt":1,"current":5}\n`);
    });
    const heard: unknown[] = [];
    open().onRunEvent((event) => heard.push(event));
    expect(await client?.ping()).toMatchObject({ language: 'python', current: null });
    expect(heard).toEqual([]);
  });

  it('that answers with the wrong fields gives an error', async () => {
    await pretend((socket, seq) => socket.write(`{"re":${seq},"ok":true,"language":"cobol"}\n`));
    await expect(open().ping()).rejects.toMatchObject({ code: 'kernel-lost' });
    expect(await client?.complete('x')).toEqual([]);
  });

  it('that refuses in unknown words gives an error of ours', async () => {
    await pretend((socket, seq) => socket.write(`{"re":${seq},"ok":false,"code":"zzz","message":{"toString":1}}\n`));
    await expect(open().ping()).rejects.toMatchObject({ code: 'internal' });
  });

  it('that sends an endless line is cut off', async () => {
    await pretend((socket) => socket.write('x'.repeat(11 << 20)));
    client = new RunnerClient({ runDirectory: run });
    await expect(client.ping()).rejects.toMatchObject({ code: 'connection-lost' });
  });

  it('that is cut is dialled again', async () => {
    let first = true;
    await pretend((socket, seq) => {
      if (first) socket.destroy();
      else socket.write(`{"re":${seq},"ok":true,"language":"node","version":1,"pid":1,"startedAt":1}\n`);
      first = false;
    });
    await expect(open().ping()).rejects.toMatchObject({ code: 'connection-lost' });
    expect(await client?.ping()).toMatchObject({ language: 'node' });
  });
});

describe('a record', () => {
  it('keeps only fields that are known', () => {
    expect(parseRecord('{"t":"stdout","d":"x","end":5,"__proto__":{}}')).toEqual({ t: 'stdout', d: 'x' });
    expect(parseRecord('{"t":"finished","x":1,"s":"rm -rf"}')).toEqual({ t: 'finished', x: 1 });
  });
});

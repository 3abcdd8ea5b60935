import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { type FakeApi, type FakeSession, type Program, startFakeApi } from '@backend.ai/client/testing';
import { AppError } from '@backend.ai/core';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CliOptions, type CliOutcome, runCli } from './testing/run-cli.ts';

const program: Program = async (code, io, session) => {
  if (code === 'print') io.print('out\n');
  else if (code === 'both') {
    io.print('out\n');
    io.print('err\n', 'stderr');
    return 7;
  } else if (code === 'killed') {
    io.notice(new AppError('out-of-memory', 'It used more memory than 64m.').toBody('r-of-the-test'));
    return 137;
  } else if (code === 'forever') {
    io.print('started\n');
    await new Promise((resolve) => io.interrupted.addEventListener('abort', resolve));
  } else if (code === 'chatter') {
    while (!io.interrupted.aborted) {
      io.print('more\n');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } else if (code.startsWith('real ')) {
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', code.slice(5)]);
    io.print(stdout);
  } else if (code.includes('./read')) {
    for (let text = await io.read(); text !== null; text = await io.read()) io.print(`<${text}>`);
  } else if (code.includes('./')) io.print(`${code} with ${[...session.files.keys()].join(' ')}\n`);
  return 0;
};

let api: FakeApi;
let folder: string;
beforeEach(async () => {
  api = await startFakeApi({ program });
  folder = await mkdtemp(join(tmpdir(), 'cli-'));
});
afterEach(async () => {
  await api[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const cli = (line: string | string[], options: CliOptions = {}): Promise<CliOutcome> =>
  runCli(typeof line === 'string' ? line.split(' ') : line, { api, cwd: folder, ...options });
const onlySession = (): FakeSession => [...api.sessions.values()][0] as FakeSession;
const statuses = (): string[] => [...api.sessions.values()].map(({ view }) => view.status);

describe('run', () => {
  it('prints the output of a snippet, ends with its exit code and removes the session', async () => {
    expect(await cli('run python -c both')).toMatchObject({
      exitCode: 7,
      stdout: 'out\n',
      stderr:
        "err\nError: The program ended with exit code 7. [program-failed]\n  What it wrote tells why; the exit code is the program's own.\n  request id: r-of-the-test\n",
    });
    expect(statuses()).toEqual(['TERMINATED']);
  });

  it('takes -c before the image as well, and resources and variables', async () => {
    expect(await cli('run -c print -r cpu=2 -r mem=1g -e A=b=c python')).toMatchObject({
      exitCode: 0,
      stdout: 'out\n',
    });
    expect(onlySession().view.requested).toEqual({ cpu: '2', mem: '1g' });
    expect(onlySession().environ).toEqual({ A: 'b=c' });
  });

  it('sends one request id with everything it does', async () => {
    await cli('run python -c print');
    expect(new Set(api.requests.map(({ requestId }) => requestId))).toEqual(new Set(['r-of-the-test']));
  });

  it('uploads a program and what it needs, and passes all that follows to it', async () => {
    await mkdir(join(folder, 'lib'));
    await writeFile(join(folder, 'lib/a.py'), 'a');
    await writeFile(join(folder, 'prog.py'), 'p');
    const { stdout, exitCode } = await cli([
      'run',
      '--upload',
      'lib',
      'python',
      'prog.py',
      '--x',
      "it's",
      '--help',
      '-c',
    ]);
    expect(exitCode).toBe(0);
    expect(stdout).toBe("python3 ./prog.py --x 'it'\\''s' --help -c with prog.py lib/a.py\n");
  });

  it('creates nothing when the program is not there', async () => {
    const { exitCode, stderr } = await cli('run python absent.py');
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/absent.py cannot be read. \[file-not-found\]\n.*\n {2}request id: r-of-the-test\n/);
    expect(api.sessions.size).toBe(0);
  });

  it('pipes its input to the program', async () => {
    await writeFile(join(folder, 'read'), '');
    expect((await cli('run shell read', { stdin: 'a\nb' })).stdout).toBe('<a\nb>');
  });

  it('interrupts the program at the first Ctrl-C', async () => {
    const outcome = await cli('run python -c forever', {
      stdin: new PassThrough(),
      onStart: (interrupt) => {
        const timer = setInterval(() => {
          if ([...api.sessions.values()][0]?.executions.length) {
            clearInterval(timer);
            interrupt();
          }
        }, 10);
      },
    });
    expect(outcome).toMatchObject({ exitCode: 130, stdout: 'started\n' });
    expect(statuses()).toEqual(['TERMINATED']);
  });

  it('ends the program and the session when nobody reads its output any more', async () => {
    expect(await cli('run python -c chatter', { closesOutput: true })).toMatchObject({ exitCode: 141 });
    expect(statuses()).toEqual(['TERMINATED']);
  });

  it('tells once why a program was killed, with what to do', async () => {
    const { exitCode, stderr } = await cli('run python -c killed');
    expect(exitCode).toBe(137);
    expect(stderr).toBe(
      'Error: It used more memory than 64m. [out-of-memory]\n  Ask for more memory (-r mem=2g), or use less.\n  request id: r-of-the-test\n',
    );
  });

  it('says when nothing is executed because the kernel is simulated', async () => {
    await cli('session create --name echo-chamber python');
    const session = onlySession();
    const isolation = { ...{ sandbox: 'simulated', ownUid: false, memory: 'none' }, processes: 'none', cpu: 'none' };
    const kernels = [{ role: 'main', isolation: { ...isolation, network: 'host' } }];
    session.view = { ...session.view, kernels } as unknown as typeof session.view;
    const { stdout, stderr } = await cli('run --name echo-chamber python -c print');
    expect(stdout).toBe('out\n');
    expect(stderr).toMatch(/^Nothing is executed: this session is simulated/);
  });

  it('collects everything into one document', async () => {
    const { json, exitCode, stderr } = await cli('run python -c both --json');
    expect({ exitCode, stderr }).toEqual({ exitCode: 7, stderr: '' });
    expect(json).toMatchObject({
      requestId: 'r-of-the-test',
      sessionId: onlySession().view.id,
      exitCode: 7,
      stdout: 'out\n',
      stderr: 'err\n',
      notices: [{ code: 'program-failed', data: { exitCode: 7 }, requestId: 'r-of-the-test' }],
      timings: { runMs: expect.any(Number) },
    });
  });

  it('leaves a session alone that existed before, and one that is to be kept', async () => {
    await cli('session create --name kept-one python');
    await cli('run --name kept-one python -c print');
    await cli('run --no-rm --name kept-two python -c print');
    expect(statuses()).toEqual(['RUNNING', 'RUNNING']);
    await cli('run --rm --name kept-two python -c print');
    expect(statuses()).toEqual(['RUNNING', 'TERMINATED']);
  });

  it('shows why it waits', async () => {
    api.pendingPolls = 2;
    const { stdout, stderr } = await cli('run python -c print');
    expect(stdout).toBe('out\n');
    expect(stderr).toMatch(
      /^waiting: No agent has enough free resources now; it starts when others end\.\n {2}more: .*explain s-\S+\n$/,
    );
  });
});

describe('session', () => {
  it('is created as asked', async () => {
    const { stdout } = await cli('session create -r cpu=1 -r mem=512m --name my-session --tag t python');
    expect(stdout).toMatch(/^Session my-session is created: RUNNING\n/);
    expect(onlySession().view).toMatchObject({ name: 'my-session', tag: 't', requested: { cpu: '1', mem: '512m' } });
    expect((await cli('session create -t my-session python')).stdout).toMatch(/existed already/);
    const again = await cli('session create -t my-session --no-reuse python');
    expect(again).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[session-exists]') });
  });

  it('is created with everything that can be asked for', async () => {
    await writeFile(join(folder, 'begin.sh'), 'echo begins');
    const { exitCode, stderr } = await cli([
      ...['session', 'create', '--type', 'batch', '-c', 'python main.py', '--batch-timeout', '90s'],
      ...['--starts-at', '2030-01-31T12:00:00+09:00', '--depends', 'first', '--depends', 'second'],
      ...['--priority', '20', '--job-priority', '7', '--no-preempt'],
      ...['--cluster-size', '2', '--cluster-mode', 'MULTI_NODE'],
      ...['--resource-opts', 'shmem=64m', '--preopen', '3000,3001', '--callback-url', 'https://example.com/'],
      ...['--assign-agent', 'i-1,i-2', '-b', 'begin.sh', 'python'],
    ]);
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(onlySession().view).toMatchObject({
      type: 'batch',
      startupCommand: 'python main.py',
      bootstrapScript: 'echo begins',
      dependencies: ['first', 'second'],
      options: {
        startsAt: '2030-01-31T03:00:00.000Z',
        timeoutMs: 90_000,
        priority: 20,
        jobPriority: 7,
        isPreemptible: false,
        clusterSize: 2,
        clusterMode: 'multi-node',
        preopenPorts: [3000, 3001],
        callbackUrl: 'https://example.com/',
        designatedAgents: ['i-1', 'i-2'],
      },
    });
  });

  it.each([
    ['--type later', '--type takes one of interactive, batch, inference, system, not "later".'],
    ['--priority high', '--priority takes a whole number, not "high".'],
    ['--cluster-mode wide', '--cluster-mode takes single-node or multi-node, not "wide".'],
    ['--starts-at 2030-99-99', '--starts-at takes a moment such as 2030-01-31T12:00:00Z, not "2030-99-99".'],
    ['-b /nowhere/at-all', '--bootstrap-script: /nowhere/at-all cannot be read (ENOENT).'],
  ])('is not created with %s', async (options, problem) => {
    const { exitCode, stderr, stdout } = await cli(`session create ${options} python`);
    expect(exitCode).toBe(2);
    expect(stdout + stderr).toContain(problem);
  });

  it('is only queued, or waited for so long, when asked', async () => {
    api.pendingPolls = 1_000_000;
    expect((await cli('session create --enqueue-only python --json')).json).toMatchObject({
      created: true,
      session: { status: 'PENDING' },
    });
    const { exitCode, stdout } = await cli('session create --max-wait 1 python');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/PENDING, No agent has enough free resources/);
  });

  it('runs commands with their words unchanged', async () => {
    await cli('session create --name my-session python');
    const { stdout } = await cli([
      'session',
      'exec',
      'my-session',
      '--',
      'real',
      'printf',
      '%s|',
      "a'b",
      '$HOME `x`',
      '',
    ]);
    // The first word selects the real shell of the test.
    expect(stdout).toBe("a'b|$HOME `x`||");
    expect(await cli('session exec my-session -c both')).toMatchObject({
      exitCode: 7,
      stderr: expect.stringContaining('Error: The program ended with exit code 7. [program-failed]\n'),
    });
    expect((await cli('session exec my-session')).exitCode).toBe(2);
    expect((await cli('exec my-session -c both --json')).json).toMatchObject({ exitCode: 7, stderr: 'err\n' });
  });

  it('is listed, shown and ended', async () => {
    await cli('session create --name one1 -r mem=536870912 python');
    await cli('session create --name two2 shell');
    const { stdout } = await cli('ps');
    expect(stdout.split('\n').map((line) => line.split(/ {2,}/).slice(0, 4))).toEqual([
      ['NAME', 'STATUS', 'IMAGE', 'RESOURCES'],
      ['one1', 'RUNNING', 'python', 'mem=512m'],
      ['two2', 'RUNNING', 'shell', expect.any(String)],
      [''],
    ]);
    expect((await cli('session info one1')).stdout).toMatch(/status +RUNNING\nwhy +It runs\.\n/);
    const [main] = onlySession().view.kernels;
    const isolation = { sandbox: 'unshare', ownUid: true, memory: 'watched', processes: 'rlimit', cpu: 'none' };
    onlySession().view = {
      ...onlySession().view,
      kernels: [{ ...main, role: 'main', isolation: { ...isolation, network: 'host', egress: 'open' } }],
    } as unknown as FakeSession['view'];
    api.requests.length = 0;
    expect((await cli('session info one1')).stdout).toContain(
      'unshare; a user id of its own; memory by watched; processes by rlimit; cpu not limited; network of the machine\n',
    );
    expect(api.requests).toHaveLength(1);
    expect((await cli('session info one1 --json')).json).toMatchObject({
      session: { name: 'one1' },
      requestId: 'r-of-the-test',
    });
    expect((await cli('session logs one1')).stdout).toBe('log of one1\n');
    expect((await cli('session logs one1 --attempt 2')).stdout).toBe('log of one1, attempt 2\n');
    expect((await cli('session logs one1 --attempt last')).exitCode).toBe(2);
    expect((await cli('session history one1 --json')).json.history).toHaveLength(1);
    expect((await cli('session history one1')).stdout).toMatch(/^AT/);
    expect((await cli('session wait one1')).exitCode).toBe(0);
    expect((await cli('session destroy --recursive one1 two2')).stdout).toBe(
      'Session one1: TERMINATED\nSession two2: TERMINATED\n',
    );
    expect((await cli('session wait one1')).exitCode).toBe(1);
    expect((await cli('session wait --until ended one1')).exitCode).toBe(0);
    expect((await cli('ps')).stdout).toMatch(/No session is alive. .*: \.\/backend\.ai ps -a$/m);
    expect((await cli('ps -a --json')).json.sessions).toHaveLength(2);
    expect((await cli('image list')).stdout).toMatch(/local\/python:1 +python +python/);
  });

  it('gets files and folders, and gives them back', async () => {
    await cli('session create --name my-session python');
    await mkdir(join(folder, 'data/deep'), { recursive: true });
    await writeFile(join(folder, 'data/deep/x.csv'), 'x,y\n');
    expect((await cli('session upload my-session data --dst in/')).stdout).toBe('in/data/deep/x.csv\n');
    expect(onlySession().files.get('in/data/deep/x.csv')?.toString()).toBe('x,y\n');
    expect((await cli('session ls my-session')).stdout).toMatch(/in\/data\/deep\/x.csv/);

    const tar = pack();
    tar.entry({ name: 'results', type: 'directory' });
    tar.entry({ name: 'results/r.txt', mode: 0o755 }, 'r');
    tar.finalize();
    onlySession().archives.set('results', await buffer(tar));
    const { json } = await cli('session download my-session results --dest here --json');
    expect(json).toMatchObject({ files: ['results/r.txt'], folder: join(folder, 'here') });
    expect(await readFile(join(folder, 'here/results/r.txt'), 'utf8')).toBe('r');
  });

  it('sends no link that is met in a folder, and what a named one leads to', async () => {
    await cli('session create --name my-session python');
    await mkdir(join(folder, 'data'));
    await mkdir(join(folder, 'elsewhere'));
    await writeFile(join(folder, 'elsewhere/secret'), 's');
    await writeFile(join(folder, 'data/x'), 'x');
    await symlink('../elsewhere', join(folder, 'data/folder'));
    await symlink('../elsewhere/secret', join(folder, 'data/file'));
    const { stdout, stderr } = await cli('session upload my-session data');
    expect(stdout).toBe('data/x\n');
    expect(stderr).toMatch(/^left out: data\/file \(.*\nleft out: data\/folder \(.*\n$/);
    expect([...onlySession().files.keys()]).toEqual(['data/x']);
    const named = await cli('session upload my-session data/file data/folder');
    expect(named).toMatchObject({ stdout: 'data/file\ndata/folder/secret\n', stderr: '' });
    expect((await cli('run --upload data python -c print')).stderr).toBe(stderr);
  });

  it('says which links of an archive it leaves out, and lets no name steer the terminal', async () => {
    await cli('session create --name my-session python');
    const tar = pack();
    tar.entry({ name: '\u001b[2Jnice' }, 'x');
    tar.entry({ name: 'link', type: 'symlink', linkname: '/etc' });
    tar.finalize();
    onlySession().archives.set('r', await buffer(tar));
    expect(await cli('session download my-session r --dest here')).toMatchObject({
      exitCode: 0,
      stdout: '[2Jnice\n',
      stderr: 'left out: link (a link that leads out of the folder, to /etc)\n',
    });
  });

  it('refuses an archive that would write elsewhere', async () => {
    await cli('session create --name my-session python');
    const tar = pack();
    tar.entry({ name: '../evil' }, 'x');
    tar.finalize();
    onlySession().archives.set('r', await buffer(tar));
    const { exitCode, stderr } = await cli('session download my-session r');
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[invalid-path]') });
  });
});

describe('errors', () => {
  it('are one sentence, a next step and the request id', async () => {
    expect(await cli('session info nobody')).toMatchObject({
      exitCode: 1,
      stdout: '',
      stderr:
        'Error: There is no session "nobody". [session-not-found]\n  List your sessions with: ./backend.ai ps\n  request id: r-of-the-test\n',
    });
  });

  it('are a document too with --json', async () => {
    const { json, exitCode } = await cli('session info nobody --json');
    expect(exitCode).toBe(1);
    expect(json).toMatchObject({
      requestId: 'r-of-the-test',
      error: { code: 'session-not-found', hint: expect.any(String) },
    });
  });

  it('name the image, and what is wrong with the keys', async () => {
    expect((await cli('run cobol -c x')).stderr).toMatch(/offers "cobol"\. \[unknown-image\]\n.*image list/);
    expect((await cli('ps --secret-key wrong')).stderr).toMatch(/\[auth-bad-signature\]/);
  });
});

describe('login', () => {
  const env = (): Record<string, string> => ({ HOME: folder, XDG_CONFIG_HOME: join(folder, 'config') });
  const file = (): string => join(folder, 'config/backend.ai/credentials.json');

  it('checks keys and keeps them for this user only', async () => {
    const { endpoint, credentials } = api;
    const keys = ['--endpoint', endpoint, '--access-key', credentials.accessKey];
    const bad = await cli(['login', ...keys, '--secret-key', 'wrong'], { api: undefined, env: env() });
    expect(bad).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[auth-bad-signature]') });
    await expect(stat(file())).rejects.toThrow();
    const good = await cli(['login', ...keys, '--secret-key', credentials.secretKey], { api: undefined, env: env() });
    expect(good.stdout).toMatch(/as user@example.com/);
    expect((await stat(file())).mode & 0o777).toBe(0o600);
    expect((await cli('ps', { api: undefined, env: env() })).exitCode).toBe(0);
    expect((await cli('logout', { api: undefined, env: env() })).stdout).toBe('Logged out.\n');
    const after = await cli('ps', { api: undefined, env: env() });
    expect(after).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('[auth-missing]') });
  });

  it('that is saved and leads nowhere is named by what it hides', async () => {
    await mkdir(join(folder, 'config/backend.ai'), { recursive: true });
    await writeFile(file(), JSON.stringify({ endpoint: 'http://127.0.0.1:1', ...api.credentials }));
    const { exitCode, stderr } = await cli('ps', { api: undefined, env: env() });
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('[server-unreachable]')]);
    expect(stderr).toContain(`The login in ${file()} names it`);
    expect(stderr).toContain('./backend.ai logout');
    // Who names another one is not told about the login.
    const named = await cli('ps --endpoint http://127.0.0.1:2', { api: undefined, env: env() });
    expect(named.stderr).toContain('./backend.ai up --detach');
  });

  it('finds the cluster of this machine by itself', async () => {
    await mkdir(join(folder, '.local/share/backend.ai'), { recursive: true });
    const known = { endpoint: api.endpoint, ...api.credentials };
    await writeFile(join(folder, '.local/share/backend.ai/credentials.json'), JSON.stringify(known));
    expect((await cli('ps', { api: undefined, env: env() })).exitCode).toBe(0);
    expect((await cli('login --json', { api: undefined, env: env() })).json).toMatchObject({ endpoint: api.endpoint });
    // Never elsewhere: keys of this cluster are not sent to another one.
    const elsewhere = await cli('login --endpoint http://127.0.0.1:1', { api: undefined, env: env() });
    expect(elsewhere.stderr).toMatch(/--access-key is missing, and there is no terminal/);
    // The secret that is known here belongs to one key: that of another one is asked for.
    const other = await cli('login --access-key AKIAOTHER', { api: undefined, env: env() });
    expect(other.stderr).toMatch(/--secret-key is missing, and there is no terminal/);
  });
});

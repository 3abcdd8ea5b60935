import { renderHelp } from '@backend.ai/cli-kit';
import { describe, expect, it } from 'vitest';
import { commands } from './index.ts';
import { runCli } from './testing/run-cli.ts';

const help = renderHelp(commands, '');
const words = (line: string): string[] => line.split(' ');

describe('wrong usage', () => {
  it.each([
    ['ps --bogus', 'ps'],
    ['ps a', 'ps'],
    ['session', 'session'],
    ['session frobnicate', 'session'],
    ['session info', 'session info'],
    ['session exec demo', 'session exec'],
    ['session create -r cpu python', 'session create'],
    ['run', 'run'],
    ['run python', 'run'],
    ['run python -c', 'run'],
    ['run -r cpu python -c x', 'run'],
    ['run --timeout soon python -c x', 'run'],
    ['frobnicate', ''],
  ])('of "%s" ends with 2 and names help that exists', async (line, key) => {
    const { exitCode, stdout, stderr } = await runCli(words(line));
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^Error: .*[^:]\n {2}(Usage: .*\n {2})*See: \.\/backend\.ai .*--help\n$/);
    expect(/See: \.\/backend\.ai ?(.*) --help\n/.exec(stderr)?.[1]).toBe(key);
    expect(help[key]).toMatch(/^Usage: /m);
  });

  it('says which words are missing or mean nothing', async () => {
    expect((await runCli(words('session frobnicate'))).stderr).toContain('no command "session frobnicate".');
    expect((await runCli(['session'])).stderr).toContain('"session" takes one more word.');
    const { stderr } = await runCli(words('run python'));
    expect(stderr).toContain('Error: "run python" lacks something, or has a word too many.\n');
    expect(stderr).toContain('  Usage: ./backend.ai run [OPTIONS] IMAGE FILE ...\n');
  });

  it('says how a value is written that looks like an option', async () => {
    const hint = '  A value that begins with "-" is written --secret-key=VALUE.\n';
    expect((await runCli(words('login --access-key AKIA --secret-key -G1I'))).stderr).toContain(hint);
    expect((await runCli(words('login --access-key AKIA --secret-key'))).stderr).not.toContain('begins with');
  });

  it.each(['session info --json', 'run --json python', 'ps --json --bogus', 'run --json --timeout soon python -c x'])(
    'is a document too: %s',
    async (line) => {
      const { exitCode, stderr, json } = await runCli(words(line));
      expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/^Error: /)]);
      expect(json).toMatchObject({
        requestId: 'r-of-the-test',
        error: { code: 'invalid-input', message: expect.any(String), hint: expect.stringMatching(/See: .* --help$/) },
      });
    },
  );

  it('is no document where --json belongs to a program', async () => {
    const { stdout } = await runCli(words('session exec --timeout soon demo -- ls --json'));
    expect(stdout).toBe('');
  });
});

describe('help', () => {
  it.each([
    ['session info demo --help', 'session info'],
    ['session create python -h', 'session create'],
    ['run python --help', 'run'],
    ['run python -c x --help', 'run'],
    ['session frobnicate --help', 'session'],
    ['session exec demo --help -- ls', 'session exec'],
  ])('is shown for "%s"', async (line, key) => {
    expect(await runCli(words(line))).toMatchObject({ exitCode: 0, stdout: help[key], stderr: '' });
  });

  it('of forms that share a name shows their common options once', () => {
    expect(help.run?.match(/^ {2}--timeout /gm)).toHaveLength(1);
    for (const own of ['  -c, --code CODE', '  --exec VALUE', '  --build VALUE']) expect(help.run).toContain(own);
    expect(help.run?.match(/^Usage: /gm)).toHaveLength(3);
  });

  it('after -- belongs to the program', async () => {
    const { exitCode, stderr } = await runCli(words('session exec demo -- ls --help'), { env: { HOME: '/nowhere' } });
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('[auth-missing]')]);
  });
});

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { AppError } from '@backend.ai/core';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  type ConfigSources,
  checkConfig,
  defineConfig,
  type FlagValue,
  host,
  loadConfig,
  milliseconds,
  port,
  readableFile,
  renderEffective,
  renderReference,
  renderSample,
  secret,
  secretUrl,
  tomlValue,
  url,
} from './index.ts';

const definition = defineConfig({
  component: 'app-keeper',
  command: 'keep',
  purpose: 'Keeps apps.',
  sections: {
    http: z
      .strictObject({
        host: host().default('127.0.0.1').describe('Address to listen on'),
        port: port().default(8091).describe('Port to listen on'),
        maxBodyBytes: z.number().int().min(1).default(1024).meta({ description: 'Largest body', unit: 'bytes' }),
        trustProxy: z.boolean().default(false).describe('Whether forwarded addresses are believed'),
        tlsCertFile: readableFile().optional().meta({ description: 'Certificate', example: '/etc/keeper/cert.pem' }),
      })
      .describe('Where users come in.'),
    database: z
      .strictObject({
        url: secretUrl('postgres').optional().describe('All in one'),
        password: secret().optional().describe('Of the database user'),
        servers: z.array(url('http')).min(1).default(['http://127.0.0.1:2379']).describe('All of them'),
        waitMs: milliseconds().default(1_000).describe('Patience'),
      })
      .describe('Where things are kept.'),
    logging: z
      .strictObject({
        level: z.enum(['debug', 'info']).default('info').describe('What is logged'),
        levels: z
          .record(z.string(), z.enum(['debug', 'info']))
          .default({})
          .describe('By component'),
        weights: z.record(z.string(), z.number()).default({}).describe('By name'),
      })
      .describe('Records.'),
  },
  check({ http }, say) {
    if (http.host !== '127.0.0.1' && http.tlsCertFile === undefined)
      say('http.tls-cert-file', 'is needed off loopback');
  },
});

const folder = mkdtempSync(join(tmpdir(), 'config-'));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string, mode = 0o600): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return name;
}

function sources(text: string | undefined, others: Partial<ConfigSources> = {}): ConfigSources {
  return { env: {}, cwd: folder, ...(text === undefined ? {} : { file: write('keeper.toml', text) }), ...others };
}

function problemsOf(text: string | undefined, others: Partial<ConfigSources> = {}): string[] {
  return checkConfig(definition, sources(text, others)).problems.map(({ where, message }) => `${where}: ${message}`);
}

const set = (key: string, text: string): FlagValue => ({ key, text, flag: `--set ${key}` });

describe('a configuration', () => {
  it('is what the file says, then the environment, then flags, and knows where each value came from', () => {
    const config = loadConfig(
      definition,
      sources('[http]\nport = 1\nmax-body-bytes = 2\n\n[logging]\nlevel = "debug"\n', {
        env: { BACKEND_APP_KEEPER_HTTP_MAX_BODY_BYTES: '3', BACKEND_APP_KEEPER_HTTP_TRUST_PROXY: 'true' },
        flags: [set('http.trust-proxy', 'false')],
      }),
    );
    expect(config.values.http).toEqual({ host: '127.0.0.1', port: 1, maxBodyBytes: 3, trustProxy: false });
    const origins = Object.fromEntries(renderEffective(config).map(({ key, origin }) => [key, origin]));
    expect(origins).toMatchObject({
      'http.host': 'default',
      'http.port': 'keeper.toml:2:1',
      'http.max-body-bytes': '$BACKEND_APP_KEEPER_HTTP_MAX_BODY_BYTES',
      'http.trust-proxy': '--set http.trust-proxy',
      'logging.level': 'keeper.toml:6:1',
    });
  });

  it('takes tables, inline tables and dotted keys alike', () => {
    const forms = [
      '[logging]\nlevels = { rpc = "debug", "a.b" = "info" }',
      '[logging.levels]\nrpc = "debug"\n"a.b" = "info"',
      'logging.levels.rpc = "debug"\nlogging.levels."a.b" = "info"',
      'logging = { levels = { rpc = "debug", "a.b" = "info" } }',
    ];
    for (const form of forms) {
      expect(loadConfig(definition, sources(form)).values.logging.levels).toEqual({ rpc: 'debug', 'a.b': 'info' });
    }
  });

  it('reads lists and tables from the environment', () => {
    const { values } = loadConfig(
      definition,
      sources(undefined, {
        env: {
          BACKEND_APP_KEEPER_DATABASE_SERVERS: 'http://a:1, http://b:2',
          BACKEND_APP_KEEPER_LOGGING_LEVELS: 'rpc=debug,http=info',
          BACKEND_APP_KEEPER_LOGGING_WEIGHTS: 'a=1.5',
          BACKEND_APP_KEEPER_HTTP_PORT: '',
        },
      }),
    );
    expect(values.database.servers).toEqual(['http://a:1', 'http://b:2']);
    expect(values.logging).toMatchObject({ levels: { rpc: 'debug', http: 'info' }, weights: { a: 1.5 } });
    expect(values.http.port).toBe(8091);
  });

  it('is complete without a file, unless one was asked for', () => {
    expect(loadConfig(definition, sources(undefined))).toMatchObject({
      fileFound: false,
      file: 'configs/app-keeper.toml',
    });
    expect(() => loadConfig(definition, sources(undefined, { file: 'other.toml' }))).toThrow(
      expect.objectContaining({
        code: 'config-invalid',
        message: expect.stringContaining('other.toml does not exist'),
        hint: 'Make it from the sample: cp configs/app-keeper.sample.toml other.toml',
      }),
    );
  });

  it('has relative paths counted from where the program was started', () => {
    write('cert.pem', '');
    const { values } = loadConfig(definition, sources('[http]\ntls-cert-file = "cert.pem"'));
    expect(values.http.tlsCertFile).toBe(join(folder, 'cert.pem'));
    expect(problemsOf('[http]\ntls-cert-file = "gone.pem"')).toEqual([
      'keeper.toml:2:1: http.tls-cert-file names gone.pem, which cannot be read (ENOENT)',
    ]);
  });
});

describe('a wrong configuration', () => {
  it('names an unknown key with file, line, column and the nearest one', () => {
    expect(problemsOf('\n[http]\n  prot = 1\n')).toEqual([
      'keeper.toml:3:3: unknown key http.prot; did you mean http.port?',
    ]);
    expect(problemsOf('[http]\nmax_body_bytes = 1')).toEqual([
      'keeper.toml:2:1: unknown key http.max_body_bytes; did you mean http.max-body-bytes?',
    ]);
    expect(problemsOf('[http]\nlevel = "info"')).toEqual([
      'keeper.toml:2:1: unknown key http.level; did you mean logging.level?',
    ]);
    expect(problemsOf('[http]\nsomething-else-entirely = 1')).toEqual([
      'keeper.toml:2:1: unknown key http.something-else-entirely',
    ]);
    expect(problemsOf('[http.prot]\na = 1\nb = 2')).toEqual([
      'keeper.toml:1:1: unknown key http.prot; did you mean http.port?',
    ]);
  });

  it('names an unknown section once', () => {
    expect(problemsOf('[htp]\nport = 1\nhost = "a"\n[htp.x]\ny = 1')).toEqual([
      'keeper.toml:1:1: unknown section [htp]; did you mean [http]?',
    ]);
    expect(problemsOf('port = 1')).toEqual([
      'keeper.toml:1:1: unknown key port outside of any section; did you mean http.port?',
    ]);
    expect(problemsOf('http = 1')).toEqual(['keeper.toml:1:1: http is a section: write [http] and its keys below']);
  });

  it('says what is expected and what was there', () => {
    expect(problemsOf('[http]\nport = "80"\ntrust-proxy = 1\n[logging]\nlevel = "loud"')).toEqual([
      'keeper.toml:2:1: http.port takes an integer from 0 to 65535, not "80"',
      'keeper.toml:3:1: http.trust-proxy takes true or false, not 1',
      'keeper.toml:5:1: logging.level takes one of "debug", "info", not "loud"',
    ]);
    expect(problemsOf('[http.port]\nx = 1')).toContain(
      'keeper.toml:1:1: http.port takes an integer from 0 to 65535, not a table',
    );
    expect(problemsOf(undefined, { env: { BACKEND_APP_KEEPER_HTTP_PORT: '0x10' } })).toEqual([
      '$BACKEND_APP_KEEPER_HTTP_PORT: http.port takes an integer from 0 to 65535, not "0x10"',
    ]);
  });

  it('tells all problems of all sources in one error with the next command', () => {
    const given = sources('[http]\nprot = 1\nport = 70000', {
      env: { BACKEND_APP_KEEPER_DATABASE_WAIT_MS: 'soon' },
      flags: [set('http.hots', 'a')],
    });
    let thrown: unknown;
    try {
      loadConfig(definition, given);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(AppError);
    const error = thrown as AppError;
    expect(error.message.split('\n')).toEqual([
      'The configuration of the app-keeper has 4 problems:',
      '  keeper.toml:2:1: unknown key http.prot; did you mean http.port?',
      '  --set http.hots: unknown key http.hots; did you mean http.host?',
      '  keeper.toml:3:1: http.port takes an integer from 0 to 65535, not 70000',
      '  $BACKEND_APP_KEEPER_DATABASE_WAIT_MS: database.wait-ms takes an integer from 0 to 2147483647, not "soon"',
    ]);
    expect(error.hint).toContain('./backend.ai keep config check --config keeper.toml');
    expect(error.data?.problems).toHaveLength(4);
  });

  it('tells where a syntax error is, and nothing of what does not follow from it', () => {
    const required = defineConfig({
      component: 'needy',
      command: 'need',
      purpose: 'Needs.',
      sections: { a: z.strictObject({ b: z.string().describe('Needed') }).describe('A.') },
    });
    const { problems } = checkConfig(required, sources('[a]\nb = "x\n'));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ where: 'keeper.toml:2:7', message: 'not TOML: Unterminated string constant' });
    expect(checkConfig(required, sources('[a]')).problems).toEqual([
      { key: 'a.b', where: 'keeper.toml', message: 'a.b is required: a text' },
    ]);
  });

  it('is found between values too', () => {
    expect(problemsOf('[http]\nhost = "0.0.0.0"')).toEqual(['undefined: http.tls-cert-file is needed off loopback']);
  });

  it('may have variables with its prefix that belong to others, which is only told', () => {
    const { problems, warnings } = checkConfig(
      definition,
      sources(undefined, { env: { BACKEND_APP_KEEPER_SERVICE_HOST: 'x', BACKEND_APP_KEEPER_HTTP_PROT: '1' } }),
    );
    expect(problems).toEqual([]);
    expect(warnings).toContain(
      'The environment variable BACKEND_APP_KEEPER_HTTP_PROT names no setting; did you mean BACKEND_APP_KEEPER_HTTP_PORT?',
    );
  });
});

describe('a secret', () => {
  it('may stand in a file of its own', () => {
    write('secret', 'hunter2\n');
    const config = loadConfig(definition, sources('[database]\npassword-file = "secret"'));
    expect(config.values.database.password?.reveal()).toBe('hunter2');
    expect(config.warnings).toEqual([]);
    const shown = renderEffective(config).find(({ key }) => key === 'database.password');
    expect(shown).toEqual({ key: 'database.password', value: '***', origin: 'keeper.toml:2:1 (secret)', secret: true });
    const fromEnv = loadConfig(
      definition,
      sources('[database]\npassword = "other"', { env: { BACKEND_APP_KEEPER_DATABASE_PASSWORD_FILE: 'secret' } }),
    );
    expect(fromEnv.values.database.password?.reveal()).toBe('hunter2');
  });

  it('is refused when its file is absent or when it is given twice', () => {
    expect(problemsOf('[database]\npassword-file = "nowhere"')).toEqual([
      'keeper.toml:2:1: database.password-file names nowhere, which cannot be read (ENOENT)',
    ]);
    expect(problemsOf('[database]\npassword = "a"\npassword-file = "secret"')).toEqual([
      'keeper.toml:3:1: database.password and database.password-file are both given; keep one',
    ]);
  });

  it('is not taken from a flag, which everybody sees', () => {
    const [problem] = problemsOf(undefined, { flags: [set('database.password', 'hunter2')] });
    expect(problem).toContain('flags are seen in the process list');
    expect(problem).not.toContain('hunter2');
  });

  it('in a file that everybody can read is warned of', () => {
    const text = '[database]\npassword = "hunter2"';
    const open = checkConfig(definition, { env: {}, cwd: folder, file: write('open.toml', text, 0o644) });
    expect(open.warnings).toEqual([expect.stringContaining('Run: chmod o-r open.toml')]);
    const closed = checkConfig(definition, { env: {}, cwd: folder, file: write('closed.toml', text, 0o640) });
    expect(closed.warnings).toEqual([]);
    const harmless = checkConfig(definition, {
      env: {},
      cwd: folder,
      file: write('h.toml', '[http]\nport = 1', 0o644),
    });
    expect(harmless.warnings).toEqual([]);
  });

  it('is not told where it stands at a wrong place or in a wrong form', () => {
    for (const text of [
      '[database]\npassword = hunter2',
      '[database]\npassword = "hunter2',
      '[database]\npasword = "hunter2"',
      '[database]\npassword = ["hunter2"]',
      '[database]\npassword = { value = "hunter2" }',
      '[database]\nurl = "hunter2"',
      '[database]\nservers = ["http://me:hunter2@host"]',
      'password = "hunter2"',
    ]) {
      const problems = problemsOf(text);
      expect(problems.length).toBeGreaterThan(0);
      expect(problems.join()).not.toContain('hunter2');
    }
  });

  it('appears in no output, whatever it is and however wrong the rest', () => {
    const texts = fc.string({ minLength: 8, maxLength: 24 }).map((text) => `S3${text}`);
    fc.assert(
      fc.property(texts, fc.boolean(), fc.boolean(), (password, broken, inUrl) => {
        const value = inUrl ? `postgres://user:${encodeURIComponent(password)}@db/x` : password;
        const hidden = inUrl ? encodeURIComponent(password) : password;
        const key = inUrl ? 'url' : 'password';
        const text = `[database]\n${key} = ${tomlValue(value)}\n${broken ? 'wait-ms = "x"\nprot = 1' : ''}`;
        const examined = checkConfig(definition, sources(text));
        const outputs = [JSON.stringify(examined), inspect(examined, { depth: 20 }), ...examined.warnings];
        if (examined.loaded) {
          outputs.push(JSON.stringify(renderEffective(examined.loaded)), inspect(examined.loaded.values, { depth: 9 }));
          expect(examined.loaded.values.database[inUrl ? 'url' : 'password']?.reveal()).toBe(value);
        }
        for (const output of outputs) expect(output).not.toContain(hidden);
      }),
    );
  });
});

describe('what is made from a definition', () => {
  const defaults = loadConfig(definition, { env: {}, cwd: folder }).values;

  it('a sample changes nothing as it is, and nothing when all its defaults are written out', () => {
    const sample = renderSample(definition);
    expect(loadConfig(definition, sources(sample)).values).toEqual(defaults);
    const unset = new Set(
      definition.settings.filter((each) => each.default === undefined).map(({ path: [, name] }) => name),
    );
    const written = sample.split('\n').map((line) => {
      const [, key = ''] = /^#([a-z-]+) =/.exec(line) ?? [];
      return key && !unset.has(key.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase()))
        ? line.slice(1)
        : line;
    });
    const config = loadConfig(definition, sources(written.join('\n')));
    expect(config.values).toEqual(defaults);
    expect(
      renderEffective(config)
        .filter(({ origin }) => origin === 'default')
        .map(({ key }) => key),
    ).toEqual(['http.tls-cert-file', 'database.url', 'database.password']);
  });

  it('a sample may come with values, and is only prose besides settings', () => {
    const sample = renderSample(definition, { 'http.port': 8191, 'logging.levels': { rpc: 'debug' } });
    expect(loadConfig(definition, sources(sample)).values).toMatchObject({
      http: { port: 8191 },
      logging: { levels: { rpc: 'debug' } },
    });
    expect(sample.split('\n').filter((line) => !/^(# .*|#?[a-z-]+ = .*|\[[a-z-]+\]|)$/.test(line))).toEqual([]);
  });

  it('a reference tells of each setting its meaning, default and variable', () => {
    const text = renderReference(definition);
    for (const { variable, description } of definition.settings) {
      expect(text).toContain(`\`${variable}\``);
      expect(text).toContain(description);
    }
  });

  it('values written as TOML are read back as they were', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ minLength: 1 }).filter((name) => name !== '__proto__'),
          fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e15, max: 1e15 }),
        ),
        (weights) => {
          const config = loadConfig(definition, sources(`[logging]\nweights = ${tomlValue(weights)}`));
          expect(config.values.logging.weights).toEqual(JSON.parse(JSON.stringify(weights)));
        },
      ),
    );
  });

  it('flags win over the environment, that over the file, that over defaults, for any mixture', () => {
    const optional = fc.option(fc.integer({ min: 0, max: 65_535 }), { nil: undefined });
    fc.assert(
      fc.property(optional, optional, optional, (inFile, inEnv, inFlag) => {
        const config = loadConfig(
          definition,
          sources(inFile === undefined ? '' : `[http]\nport = ${inFile}`, {
            env: inEnv === undefined ? {} : { BACKEND_APP_KEEPER_HTTP_PORT: String(inEnv) },
            flags: inFlag === undefined ? [] : [set('http.port', String(inFlag))],
          }),
        );
        const [kind, value] =
          inFlag !== undefined
            ? ['flag', inFlag]
            : inEnv !== undefined
              ? ['environment', inEnv]
              : inFile !== undefined
                ? ['file', inFile]
                : ['default', 8091];
        const found = config.settings.find(({ setting }) => setting.key === 'http.port');
        expect([found?.origin.kind, config.values.http.port]).toEqual([kind, value]);
      }),
    );
  });
});

it('a file that is not there is not made', () => {
  loadConfig(definition, sources(undefined));
  expect(() => readFileSync(join(folder, 'configs/app-keeper.toml'))).toThrow('ENOENT');
});

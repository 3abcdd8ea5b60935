import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { DevServer, type DevServerOptions, writeSecret } from './dev-server.ts';
import { freePort } from './ports.ts';
import { requireProgram } from './programs.ts';

export interface DockerRegistryOptions extends DevServerOptions {
  /** Who may come in; absent: everybody. */
  readonly credentials?: { readonly username: string; readonly password: string } | undefined;
}

/** A registry of container images on loopback, without TLS: container engines take that from 127.0.0.0/8. */
export async function startDockerRegistry(options: DockerRegistryOptions): Promise<DevServer> {
  const program = requireProgram('dockerRegistry');
  const directory = resolve(options.directory);
  const data = join(directory, 'data');
  await mkdir(data, { recursive: true, mode: 0o700 });
  const port = options.port ?? (await freePort());
  const { credentials } = options;
  const users = join(directory, 'htpasswd');
  if (credentials) {
    const line = `${credentials.username}:${await bcrypt(credentials.password)}\n`;
    await (await writeSecret(users, line)).close();
  }
  // JSON is YAML.
  const settings = {
    version: 0.1,
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: data }, delete: { enabled: true }, redirect: { disable: true } },
    http: { addr: `127.0.0.1:${port}`, secret: randomBytes(16).toString('hex') },
    ...(credentials ? { auth: { htpasswd: { realm: 'registry', path: users } } } : {}),
  };
  const configuration = join(directory, 'config.yml');
  await (await writeSecret(configuration, JSON.stringify(settings))).close();
  const url = `http://127.0.0.1:${port}`;
  return DevServer.start({
    name: 'docker-registry',
    directory,
    port,
    url,
    command: [program, 'serve', configuration],
    environment: { OTEL_TRACES_EXPORTER: 'none' },
    stopSignal: 'SIGTERM',
    survives: options.survives ?? false,
    probe: async () => {
      const { status } = await fetch(`${url}/v2/`);
      if (status !== (credentials ? 401 : 200)) throw new Error(`The registry answers ${status}.`);
    },
  });
}

/** The registry reads no other kind. Perl's crypt knows it wherever Debian's does; the password is no argument. */
async function bcrypt(password: string): Promise<string> {
  const salt = randomBytes(16).toString('hex').slice(0, 21);
  const crypting = promisify(execFile)('perl', ['-e', `print crypt(<STDIN>, q($2b$05$${salt}u))`]);
  crypting.child.stdin?.end(password);
  return (await crypting).stdout;
}

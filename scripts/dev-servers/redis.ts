import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { DevServer, type DevServerOptions, writeSecret } from './dev-server.ts';
import { freePort } from './ports.ts';
import { requireProgram } from './programs.ts';

export interface RedisOptions extends DevServerOptions {
  /** Of hexadecimal digits or letters. */
  readonly password: string;
  /** Append-only file: what was written survives a restart. True unless given. */
  readonly durable?: boolean;
}

/** Redis on loopback only, with a password. */
export async function startRedis(options: RedisOptions): Promise<DevServer> {
  const program = requireProgram('redis');
  const directory = resolve(options.directory);
  const data = join(directory, 'data');
  await mkdir(data, { recursive: true, mode: 0o700 });
  const port = options.port ?? (await freePort());
  const settings = [
    'bind 127.0.0.1',
    `port ${port}`,
    'daemonize no',
    `dir "${data}"`,
    'save ""',
    `appendonly ${options.durable === false ? 'no' : 'yes'}`,
    `requirepass ${options.password}`,
  ];
  // In a file, because everybody on the machine can read the arguments of a process.
  const configuration = join(directory, 'redis.conf');
  await (await writeSecret(configuration, `${settings.join('\n')}\n`)).close();
  return DevServer.start({
    name: 'Redis',
    directory,
    port,
    url: `redis://:${options.password}@127.0.0.1:${port}`,
    command: [program, configuration],
    stopSignal: 'SIGTERM',
    survives: options.survives ?? false,
    probe: () => ping(port, options.password),
  });
}

async function ping(port: number, password: string): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port, timeout: 2_000 }).once('timeout', () => socket.destroy());
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  socket.write(`AUTH ${password}\r\nPING\r\nQUIT\r\n`);
  await once(socket, 'close');
  if (!answer.includes('+PONG')) throw new Error(`Redis answers ${JSON.stringify(answer)}.`);
}

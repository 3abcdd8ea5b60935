import { createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { writeError } from '@backend.ai/cli-kit';
import type { Session } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { Command, Option } from 'clipanion';
import { parseServiceOptions } from '../../execution/service-options.ts';
import { SessionCommand } from '../../session-command.ts';

export class SessionApp extends SessionCommand {
  static override paths = [['session', 'app'], ['session', 'forward'], ['app']];
  static override usage = Command.Usage({
    category: 'Sessions',
    description: 'Open a service of a session on this machine',
    details:
      'Listens here and passes every connection into the session, until Ctrl-C. SERVICE is one of `session apps`, started if need be, or the number of a port on which a program of yours listens in the session.',
    examples: [
      ['Jupyter of a session', '$0 app my-session jupyter'],
      ['Something of your own on port 8000, here on 9000', '$0 app my-session 8000 --bind 9000'],
    ],
  });

  service = Option.String({ name: 'SERVICE', required: true });
  bind = Option.String('-b,--bind', {
    description: '[HOST:]PORT to listen on here; loopback and a free port by itself',
  });
  env = Option.Array('-e,--env', [], { description: 'NAME=VALUE for the service' });
  arg = Option.Array('--arg', [], { description: 'NAME or NAME=VALUE for the service' });

  override async perform(): Promise<undefined> {
    const { stdout, requestId } = this.context;
    const [, service = '', port] = /^([^:]+)(?::(\d+))?$/.exec(this.service) ?? [];
    const session = await this.open();
    const options = {
      ...parseServiceOptions(this.env, this.arg),
      ...(port === undefined ? {} : { port: Number(port) }),
    };
    // What cannot be opened is told before anything listens here.
    (await session.connect(service, options)).destroy();
    const server = createServer((socket) => {
      void pass(session, service, options, socket).catch((error: unknown) => {
        writeError(this.context.stderr, AppError.from(error), requestId);
      });
    });
    const address = await listen(server, this.bind);
    if (this.json) this.printJson({ service, address });
    else stdout.write(`${service} of ${session.name} is at ${address} until Ctrl-C.\n`);
    await new Promise<void>((resolve) => {
      const stop = this.context.onInterrupt(() => {
        stop();
        resolve();
      });
    });
    server.close();
    server.unref();
    for (const socket of open) socket.destroy();
    return undefined;
  }
}

const open = new Set<Socket>();

async function pass(
  session: Session,
  service: string,
  options: Parameters<Session['connect']>[1],
  socket: Socket,
): Promise<void> {
  open.add(socket);
  socket.once('close', () => open.delete(socket));
  socket.on('error', () => {});
  try {
    const inner = await session.connect(service, options);
    inner.on('error', () => socket.destroy());
    // A side that goes away is the end of the connection, and no failure.
    await Promise.all([pipeline(socket, inner), pipeline(inner, socket)]).catch(() => {});
  } finally {
    socket.destroy();
  }
}

function listen(server: Server, bind: string | undefined): Promise<string> {
  const [, host = '127.0.0.1', port = '0'] = /^(?:(.*):)?(\d{1,5})$/.exec(bind ?? '0') ?? [];
  if (bind !== undefined && !/^(?:.*:)?\d{1,5}$/.test(bind))
    throw new AppError('invalid-input', `"${bind}" is not of the form [HOST:]PORT.`);
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const code = cause.code === 'EADDRINUSE' ? 'port-in-use' : 'invalid-input';
      reject(
        new AppError(code, `${host}:${port} cannot be listened on.`, { hint: 'Choose another with --bind.', cause }),
      );
    });
    server.listen(Number(port), host, () => {
      const address = server.address();
      const bound = typeof address === 'object' && address ? address.port : Number(port);
      resolve(`${host.includes(':') ? `[${host}]` : host}:${bound}`);
    });
  });
}

/** The few calls to a container engine that building images needs. Podman's compatible socket answers them, too. */
import { existsSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@backend.ai/core';

type Address = { readonly socketPath: string } | { readonly host: string; readonly port: number };

export interface EngineImage {
  readonly Id: string;
  readonly Size: number;
  readonly Config: { readonly Labels: Readonly<Record<string, string>> | null };
}

interface Call {
  /** Of a list each entry is a parameter of its own. */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Readable;
}

/** Sockets at which an engine is looked for when DOCKER_HOST names none. */
export function engineSockets(environment: NodeJS.ProcessEnv): string[] {
  const ofUser = environment.XDG_RUNTIME_DIR ? [join(environment.XDG_RUNTIME_DIR, 'podman/podman.sock')] : [];
  return ['/var/run/docker.sock', ...ofUser, '/run/podman/podman.sock'];
}

export class Engine {
  readonly #address: Address;
  /** As a person writes it. */
  readonly name: string;

  private constructor(address: Address, name: string) {
    this.#address = address;
    this.name = name;
  }

  /**
   * The engine of DOCKER_HOST or of the machine, once it has answered.
   *
   * @throws AppError `server-unreachable` that says what is missing
   */
  static async connect(environment: NodeJS.ProcessEnv): Promise<Engine> {
    const host =
      environment.DOCKER_HOST ||
      engineSockets(environment)
        .filter(existsSync)
        .map((path) => `unix://${path}`)[0];
    if (!host) {
      throw new AppError('server-unreachable', 'There is no container engine on this machine.', {
        hint: 'Install one (Debian: docker.io), or name its socket in DOCKER_HOST.',
      });
    }
    const engine = new Engine(addressOf(host), host);
    try {
      await engine.#read('GET', '/_ping');
      return engine;
    } catch (cause) {
      const refused = (cause as NodeJS.ErrnoException).code === 'EACCES';
      throw new AppError(
        'server-unreachable',
        `The container engine at ${host} ${refused ? 'is closed to you' : 'does not answer'}.`,
        {
          hint: refused
            ? 'Join the group docker, or run this as root.'
            : 'Start it, or name another one in DOCKER_HOST.',
          cause,
        },
      );
    }
  }

  async findImage(reference: string): Promise<EngineImage | undefined> {
    const answer = await this.#send('GET', `/images/${reference}/json`);
    if (answer.statusCode === 404) {
      answer.resume();
      return undefined;
    }
    return JSON.parse(await bodyOf(answer)) as EngineImage;
  }

  /** Makes an image of one layer of a tar archive. */
  async importImage(reference: string, archive: Readable, changes: readonly string[]): Promise<void> {
    const answer = await this.#read('POST', '/images/create', {
      query: { fromSrc: '-', changes },
      headers: { 'content-type': 'application/x-tar' },
      body: archive,
    });
    // The last of several lines.
    const { status: id, error } = JSON.parse(answer.trim().split('\n').at(-1) ?? '') as {
      status?: string;
      error?: string;
    };
    if (!id) throw refusal(error ?? answer);
    // Named afterwards: Podman takes in a name, but no tag.
    await this.#tag(id, reference);
  }

  /** By the Dockerfile in `context`, a tar archive; tells its output line by line. */
  async buildImage(
    reference: string,
    context: Readable,
    build: { labels: Readonly<Record<string, string>>; arguments: Readonly<Record<string, string>> },
    tell: (line: string) => void,
  ): Promise<void> {
    const query = {
      t: reference,
      labels: JSON.stringify(build.labels),
      buildargs: JSON.stringify(build.arguments),
      pull: '1',
      rm: '1',
      forcerm: '1',
    };
    await this.#follow('/build', { query, headers: { 'content-type': 'application/x-tar' }, body: context }, tell);
  }

  /** Under a name of its registry, which the image is given for it. */
  async pushImage(reference: string, target: string, credentials: object, tell: (line: string) => void): Promise<void> {
    await this.#tag(reference, target);
    const { repo, tag } = splitTag(target);
    // Of the variant for URLs, and with padding, which Node leaves out.
    const auth = Buffer.from(JSON.stringify(credentials)).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
    const headers = { 'x-registry-auth': auth };
    await this.#follow(`/images/${repo}/push`, { query: { tag }, headers }, tell);
  }

  async #tag(image: string, name: string): Promise<void> {
    await this.#read('POST', `/images/${image}/tag`, { query: splitTag(name) });
  }

  /** Of a call that answers with lines of JSON, the last of which may be its failure. */
  async #follow(path: string, call: Call, tell: (line: string) => void): Promise<void> {
    const answer = await this.#send('POST', path, call);
    if (answer.statusCode !== 200) await bodyOf(answer);
    let rest = '';
    for await (const chunk of answer.setEncoding('utf8')) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines.filter((each) => each.trim() !== '')) {
        const { stream, status, error } = JSON.parse(line) as Record<string, string | undefined>;
        if (error) throw refusal(error);
        const words = (stream ?? status ?? '').trim();
        if (words) tell(words);
      }
    }
  }

  async #read(method: string, path: string, call?: Call): Promise<string> {
    return await bodyOf(await this.#send(method, path, call));
  }

  #send(method: string, path: string, call: Call = {}): Promise<IncomingMessage> {
    const query = call.query ? `?${queryText(call.query)}` : '';
    return new Promise((resolve, reject) => {
      const outgoing = request(
        { ...this.#address, method, path: `${path}${query}`, headers: { ...call.headers } },
        resolve,
      );
      outgoing.once('error', reject);
      if (call.body) pipeline(call.body, outgoing).catch(reject);
      else outgoing.end();
    });
  }
}

/** @throws AppError with what the engine says, unless it succeeded */
async function bodyOf(answer: IncomingMessage): Promise<string> {
  const body = await text(answer);
  if (answer.statusCode! < 400) return body;
  let message = body;
  try {
    message = (JSON.parse(body) as { message: string }).message;
  } catch {
    // Not every answer is JSON.
  }
  throw refusal(message.trim());
}

function refusal(message: string): AppError {
  return new AppError('internal', `The engine says: ${message}`, { hint: 'Its log may tell more.' });
}

function addressOf(host: string): Address {
  const [, socketPath] = /^unix:\/\/(\/.*)$/.exec(host) ?? [];
  if (socketPath) return { socketPath };
  const [, name, port] = /^tcp:\/\/([^/:]+):(\d+)\/?$/.exec(host) ?? [];
  if (name) return { host: name, port: Number(port) };
  throw new AppError('invalid-input', `DOCKER_HOST is neither unix:///PATH nor tcp://HOST:PORT: ${host}`, {
    hint: 'Engines are reached over a socket or plain TCP only.',
  });
}

function queryText(query: NonNullable<Call['query']>): string {
  const entries = Object.entries(query).flatMap(([name, values]) =>
    [values].flat().map((value): [string, string] => [name, value]),
  );
  return new URLSearchParams(entries).toString();
}

function splitTag(reference: string): { repo: string; tag: string } {
  const colon = reference.lastIndexOf(':');
  return { repo: reference.slice(0, colon), tag: reference.slice(colon + 1) };
}

import { posix } from 'node:path';
import { homePathSchema, sessionRefSchema } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { FastifyReply, FastifyRequest } from 'fastify';

/**
 * Parameters of REST calls. They come in a JSON body (on GET and DELETE too), in the query, or in both; the body wins.
 * Keys have aliases, `null` means absent, unknown keys are ignored so that newer clients work.
 */
export class Params {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #problems: Record<string, string> = {};

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#values, name);
  }

  /** The first of the names that has a value. */
  value(...names: string[]): unknown {
    for (const name of names) {
      const value = this.has(name) ? this.#values[name] : undefined;
      if (value !== undefined && value !== null) return value;
    }
    return undefined;
  }

  text(...names: [string, ...string[]]): string | undefined {
    const value = this.value(...names);
    if (value === undefined || typeof value === 'string') return value;
    return this.problem(names[0], 'is not a string');
  }

  requiredText(...names: [string, ...string[]]): string {
    if (this.value(...names) === undefined) this.problem(names[0], 'is required');
    return this.text(...names) ?? '';
  }

  boolean(...names: [string, ...string[]]): boolean | undefined {
    const value = this.value(...names);
    if (value === undefined || typeof value === 'boolean') return value;
    const text = typeof value === 'string' || typeof value === 'number' ? String(value).toLowerCase() : '';
    if (['true', 't', 'yes', 'y', 'on', '1'].includes(text)) return true;
    if (['false', 'f', 'no', 'n', 'off', '0'].includes(text)) return false;
    return this.problem(names[0], 'is not a boolean');
  }

  integer(...names: [string, ...string[]]): number | undefined {
    const value = this.value(...names);
    if (value === undefined) return undefined;
    const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value;
    if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number;
    return this.problem(names[0], 'is not a whole number of at least 0');
  }

  /** One text (as a query has it) counts as a list of one. */
  texts(...names: [string, ...string[]]): string[] {
    const value = this.value(...names) ?? [];
    const list = Array.isArray(value) ? value : [value];
    if (list.every((item) => typeof item === 'string')) return list;
    this.problem(names[0], 'is not a list of strings');
    return [];
  }

  /** Digits in texts count, as in queries. */
  integers(...names: [string, ...string[]]): number[] {
    const value = this.value(...names) ?? [];
    const list = (Array.isArray(value) ? value : [value]).map((item) =>
      typeof item === 'string' && /^\d{1,15}$/.test(item) ? Number(item) : item,
    );
    if (list.every((item) => typeof item === 'number' && Number.isSafeInteger(item))) return list;
    this.problem(names[0], 'is not a list of whole numbers');
    return [];
  }

  object(...names: [string, ...string[]]): Params {
    const value = this.value(...names);
    if (value === undefined) return new Params({});
    if (isObject(value)) return new Params(value);
    this.problem(names[0], 'is not an object');
    return new Params({});
  }

  /** All keys that have a value. */
  entries(): [string, unknown][] {
    return Object.entries(this.#values).filter(([, value]) => value !== undefined && value !== null);
  }

  problem(name: string, text: string): undefined {
    this.#problems[name] ??= text;
    return undefined;
  }

  /**
   * To be called when all was read.
   * @param prefix Where these stand in the whole: `config.`
   * @throws AppError `invalid-input` naming every field that was wrong
   */
  check(prefix = ''): void {
    const problems = Object.entries(this.#problems).map(([name, problem]) => [`${prefix}${name}`, problem]);
    if (problems.length > 0) throw invalidFields(Object.fromEntries(problems));
  }
}

export function invalidFields(fields: Record<string, string>): AppError {
  const text = Object.entries(fields).map(([name, problem]) => `${name} ${problem}`);
  return new AppError('invalid-input', `Invalid input: ${text.join('; ')}.`, { data: { fields } });
}

export function readParams(request: FastifyRequest): Params {
  return new Params({ ...(request.query as Record<string, unknown>), ...readBody(request) });
}

const readBodies = new WeakMap<FastifyRequest, Record<string, unknown>>();

/** Once for each request: hooks and routes ask for it. */
function readBody(request: FastifyRequest): Record<string, unknown> {
  const read = readBodies.get(request) ?? parseBody(request);
  readBodies.set(request, read);
  return read;
}

function parseBody(request: FastifyRequest): Record<string, unknown> {
  const body = request.body;
  if (!Buffer.isBuffer(body) || body.length === 0) return {};
  if (/\byaml\b/i.test(request.headers['content-type'] ?? ''))
    throw new AppError('invalid-input', 'YAML bodies are not read here.', { hint: 'Send the same as JSON.' });
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new AppError('malformed-body', 'The body is not JSON.', { cause });
  }
  if (!isObject(value)) throw new AppError('malformed-body', 'The body is not a JSON object.');
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The session that the path names. */
export function sessionOf(request: FastifyRequest): string {
  const { session = '' } = request.params as { session?: string };
  // `/session/_/…` is reserved for calls about no certain session.
  if (session === '_') throw routeNotFound(request);
  if (!sessionRefSchema.safeParse(session).success) throw new AppError('session-not-found', 'No such session.');
  return session;
}

export function routeNotFound(request: FastifyRequest): AppError {
  return new AppError('route-not-found', 'This URL is not offered.', { data: { path: pathOf(request.url) } });
}

export function pathOf(url: string): string {
  return url.split('?', 1)[0] ?? '/';
}

const home = '/home/work';

/**
 * A path of a session's home folder, relative to it. Links are the agent's to check.
 * @throws AppError `invalid-path` when it leaves the folder
 */
export function homePath(text: string): string {
  const absolute = posix.resolve(home, text);
  const inside = absolute === home || absolute.startsWith(`${home}/`);
  if (!homePathSchema.safeParse(text).success || !inside)
    throw new AppError('invalid-path', 'The path is not inside the home folder of the session.');
  return posix.relative(home, absolute) || '.';
}

export function sendJson(reply: FastifyReply, status: number, value: unknown): FastifyReply {
  return sendJsonText(reply.code(status).header('content-type', 'application/json'), JSON.stringify(value));
}

/**
 * As text, so that head and body leave in one piece. With the content type that was set: clients refuse JSON of another
 * one, some of them with parameters, and Fastify would add one.
 */
export function sendJsonText(reply: FastifyReply, text: string): FastifyReply {
  return reply.serializer(asItIs).send(text);
}

const asItIs = (text: unknown): string => text as string;

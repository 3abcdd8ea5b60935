import { AppError, isRepositoryName, isTagName } from '@backend.ai/core';
import { z } from 'zod';
import { parseChallenge } from './challenge.ts';
import type { HttpAnswer, RegistryHttp } from './registry-http.ts';

export interface RegistryClientOptions {
  /** Scheme, host and port. */
  readonly url: string;
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  readonly http: RegistryHttp;
  readonly signal: AbortSignal;
}

/** A manifest of whatever kind, as it came. */
export interface FetchedManifest {
  readonly mediaType: string;
  readonly digest: string;
  readonly document: unknown;
}

export const manifestTypes = {
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
} as const;

const accept = Object.values(manifestTypes).join(', ');
const pageSize = 200;
/** Of names in one list: more are not from a registry that one could want. */
const maxNames = 100_000;

const catalogSchema = z.object({ repositories: z.array(z.string()).nullable() });
const tagsSchema = z.object({ tags: z.array(z.string()).nullish() });
const tokenSchema = z.object({ token: z.string().optional(), access_token: z.string().optional() });

/**
 * One registry, by the Docker Registry HTTP API v2. Names that it lists and that are none are left out. A token is asked
 * for when the registry wants one, for each scope once.
 */
export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #tokens = new Map<string, Promise<string>>();

  constructor(options: RegistryClientOptions) {
    this.#options = options;
  }

  /** @throws AppError `registry-unreachable`, `registry-denied`, `registry-answer-invalid`, as everything here */
  async ping(): Promise<void> {
    await this.#get('/v2/', '', '');
  }

  async repositories(): Promise<string[]> {
    const names = await this.#list(`/v2/_catalog?n=${pageSize}`, 'registry:catalog:*', (document) => {
      return catalogSchema.parse(document).repositories ?? [];
    });
    return names.filter(isRepositoryName);
  }

  async tags(repository: string): Promise<string[]> {
    const path = `/v2/${repository}/tags/list?n=${pageSize}`;
    const names = await this.#list(path, pullScope(repository), (document) => tagsSchema.parse(document).tags ?? []);
    return names.filter(isTagName);
  }

  /** @param reference A tag or a digest. @throws AppError `image-not-found`, too, as `blob` does */
  async manifest(repository: string, reference: string): Promise<FetchedManifest> {
    const answer = await this.#get(`/v2/${repository}/manifests/${reference}`, pullScope(repository), accept);
    const digest = answer.header('docker-content-digest') ?? (reference.startsWith('sha256:') ? reference : '');
    if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw invalid(answer, 'does not say what digest it has');
    const document = parseJson(answer);
    const stated = (document as { mediaType?: unknown } | null)?.mediaType;
    const mediaType = (answer.header('content-type') ?? '').split(';')[0]!.trim();
    return { mediaType: typeof stated === 'string' ? stated : mediaType, digest, document };
  }

  async jsonBlob(repository: string, digest: string): Promise<unknown> {
    return parseJson(await this.#get(`/v2/${repository}/blobs/${digest}`, pullScope(repository), '*/*'));
  }

  /** False: it was not there. @throws AppError `unsupported-feature` by registries that do not allow it */
  async deleteManifest(repository: string, digest: string): Promise<boolean> {
    const scope = `repository:${repository}:pull,delete`;
    const answer = await this.#send('DELETE', `/v2/${repository}/manifests/${digest}`, scope, '');
    if (answer.status === 404) return false;
    if (answer.status === 405) {
      throw new AppError('unsupported-feature', `The registry ${this.#options.url} deletes no images.`, {
        hint: 'Leave --remove-from-registry out, or let the registry allow it.',
      });
    }
    check(answer);
    return true;
  }

  async #list(first: string, scope: string, read: (document: unknown) => string[]): Promise<string[]> {
    const { url } = this.#options;
    const names = new Set<string>();
    const seen = new Set<string>();
    for (let path: string | undefined = first; path !== undefined; ) {
      seen.add(path);
      const answer: HttpAnswer = await this.#get(path, scope, 'application/json');
      try {
        for (const name of read(parseJson(answer))) names.add(name);
      } catch (cause) {
        if (cause instanceof AppError) throw cause;
        throw invalid(answer, 'is no list of names', cause);
      }
      if (names.size > maxNames) throw invalid(answer, `lists more than ${maxNames} names`);
      path = nextPage(answer.header('link'), url, path);
      if (path !== undefined && seen.has(path)) throw invalid(answer, 'leads in a circle');
    }
    return [...names].sort();
  }

  async #get(path: string, scope: string, accepted: string): Promise<HttpAnswer> {
    const answer = await this.#send('GET', path, scope, accepted);
    check(answer);
    return answer;
  }

  async #send(method: 'GET' | 'DELETE', path: string, scope: string, accepted: string): Promise<HttpAnswer> {
    const { url, http, credentials, signal } = this.#options;
    const request = { method, url: `${url}${path}`, accept: accepted, signal };
    const known = this.#tokens.get(scope);
    const first = await http.send({ ...request, ...(known ? { authorization: await known } : {}) });
    if (first.status !== 401) return first;
    const challenge = parseChallenge(first.header('www-authenticate'));
    if (challenge?.scheme === 'basic') {
      if (!credentials) return first;
      // The same header for everything: it is tried first from now on.
      this.#tokens.set(scope, Promise.resolve(basic(credentials)));
    } else if (challenge?.scheme === 'bearer') {
      const asked = this.#token(challenge.realm, challenge.service, challenge.scope ?? scope);
      this.#tokens.set(scope, asked);
      asked.catch(() => this.#tokens.delete(scope));
    } else return first;
    return await http.send({ ...request, authorization: await this.#tokens.get(scope)! });
  }

  async #token(realm: string, service: string | undefined, scope: string): Promise<string> {
    const { url, http, credentials, signal } = this.#options;
    const target = URL.canParse(realm) ? new URL(realm) : undefined;
    // What comes in the clear may send to the clear only when the registry is asked in the clear itself.
    const isSafe = target?.protocol === 'https:' || (target?.protocol === 'http:' && url.startsWith('http:'));
    if (!target || !isSafe) {
      throw new AppError(
        'registry-answer-invalid',
        `The registry ${url} names no place for tokens that may be trusted.`,
        {
          detail: { realm },
        },
      );
    }
    if (service) target.searchParams.set('service', service);
    if (scope) target.searchParams.set('scope', scope);
    const authorization = credentials ? { authorization: basic(credentials) } : {};
    const answer = await http.send({
      method: 'GET',
      url: target.href,
      accept: 'application/json',
      signal,
      ...authorization,
    });
    check(answer);
    const parsed = tokenSchema.safeParse(parseJson(answer));
    const token = parsed.data?.token ?? parsed.data?.access_token;
    if (!token) throw invalid(answer, 'has no token in it');
    return `Bearer ${token}`;
  }
}

const pullScope = (repository: string): string => `repository:${repository}:pull`;

function basic({ username, password }: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** Pages are followed on the same registry only. */
function nextPage(link: string | undefined, base: string, current: string): string | undefined {
  const [, target] = /<([^>]*)>\s*;[^,]*\brel="?next"?/i.exec(link ?? '') ?? [];
  if (target === undefined || !URL.canParse(target, `${base}${current}`)) return undefined;
  const next = new URL(target, `${base}${current}`);
  return next.origin === new URL(base).origin ? `${next.pathname}${next.search}` : undefined;
}

function check(answer: HttpAnswer): void {
  const { status, url } = answer;
  if (status >= 200 && status < 300) return;
  const said = { detail: { status, body: answer.body.toString('utf8', 0, 2_000) }, data: { url, status } };
  if (status === 401 || status === 403) {
    throw new AppError('registry-denied', `The registry refuses ${url} to these credentials.`, said);
  }
  if (status === 404) throw new AppError('image-not-found', `The registry has no ${url}.`, said);
  if (status === 429 || status >= 500) {
    throw new AppError('registry-unreachable', `The registry answers ${status} to ${url}.`, said);
  }
  throw new AppError('registry-answer-invalid', `The registry answers ${status} to ${url}.`, said);
}

function parseJson(answer: HttpAnswer): unknown {
  try {
    return JSON.parse(answer.body.toString('utf8'));
  } catch (cause) {
    throw invalid(answer, 'is not JSON', cause);
  }
}

function invalid({ url, body }: HttpAnswer, problem: string, cause?: unknown): AppError {
  const detail = { body: body.toString('utf8', 0, 2_000) };
  return new AppError('registry-answer-invalid', `The answer to ${url} ${problem}.`, { detail, data: { url }, cause });
}

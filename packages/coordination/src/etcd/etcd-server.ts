import { AppError, hasCode } from '@backend.ai/core';
import { Etcd3, type IKeyValue, type IOptions, type Namespace, Range } from 'etcd3';
import { etcdFailure, etcdUnreachable } from './etcd-errors.ts';

export interface EtcdServerOptions {
  /** `http://user:password@host:port`, or `https:` for TLS; further members of the cluster after commas, or as a list. */
  readonly urls: string | readonly string[];
  /** PEM of the authority that signed the servers' certificates, where the system does not know it. */
  readonly ca?: string | undefined;
  /** Begins all keys. */
  readonly namespace: string;
  readonly connectDeadlineMs?: number | undefined;
  /** Command that shows the settings of whoever opens it, for errors about them. */
  readonly showConfig?: string | undefined;
}

const callDeadlineMs = 3_000;

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/**
 * Calls fail when they fail: whoever calls knows whether to repeat. The client's own circuit breaker would refuse calls
 * for seconds after the server is back.
 */
const once = { execute: async (work: (context: object) => unknown) => work({}) } as unknown as Policy;

/** An etcd cluster, and our part of its keys. Connections are made when they are needed, again and again. */
export class EtcdServer {
  /** For messages: hosts and ports. */
  readonly address: string;
  readonly showConfig: string | undefined;
  readonly keys: Namespace;
  readonly #client: Etcd3;
  readonly #namespace: string;

  private constructor(options: EtcdServerOptions, urls: readonly URL[]) {
    const [first] = urls;
    this.#namespace = options.namespace;
    this.showConfig = options.showConfig;
    this.address = urls.map(({ host }) => host).join(', ');
    this.#client = new Etcd3({
      hosts: urls.map(({ protocol, host }) => `${protocol}//${host}`),
      ...(options.ca === undefined ? {} : { credentials: { rootCertificate: Buffer.from(options.ca) } }),
      ...(first?.username
        ? { auth: { username: decodeURIComponent(first.username), password: decodeURIComponent(first.password) } }
        : {}),
      // A stream lasts as long as it is wanted; everything else has a deadline.
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + callDeadlineMs }),
      faultHandling: { host: () => once, global: once },
      grpcOptions: {
        'grpc.initial_reconnect_backoff_ms': 50,
        'grpc.max_reconnect_backoff_ms': 500,
        // Finds dead networks under watches. More often than every five seconds etcd takes for an attack.
        'grpc.keepalive_time_ms': 6_000,
        'grpc.keepalive_timeout_ms': 3_000,
      },
    });
    this.keys = this.#client.namespace(options.namespace);
  }

  /** @throws AppError `config-invalid` (URL, user, password), `server-unreachable` */
  static async open(options: EtcdServerOptions): Promise<EtcdServer> {
    const texts = typeof options.urls === 'string' ? options.urls.split(',') : options.urls;
    const urls = texts.map((text) => (URL.canParse(text.trim()) ? new URL(text.trim()) : undefined));
    const sound = urls.filter((url): url is URL => url !== undefined && /^https?:$/.test(url.protocol));
    if (sound.length === 0 || sound.length < urls.length || new Set(sound.map(({ protocol }) => protocol)).size > 1) {
      throw new AppError('config-invalid', 'The URL of etcd is not one.', {
        hint: 'Write it as http://USER:PASSWORD@HOST:PORT, further members after commas.',
      });
    }
    const server = new EtcdServer(options, sound);
    try {
      await server.#answer(options.connectDeadlineMs ?? 10_000);
    } catch (error) {
      server.close();
      // Nothing was changed: that there was no answer is all there is to say.
      throw hasCode(error, 'deadline-exceeded') ? etcdUnreachable(server, error.detail) : error;
    }
    return server;
  }

  /** @throws AppError in place of what the client throws */
  async run<T>(work: (keys: Namespace) => Promise<T>): Promise<T> {
    try {
      return await work(this.keys);
    } catch (error) {
      throw etcdFailure(error, this);
    }
  }

  /** All keys with this prefix, for watches, which know nothing of namespaces. */
  range(prefix: string): Range {
    return Range.prefix(this.#namespace + prefix);
  }

  /** A key that a watch found, without our namespace. */
  keyOf({ key }: Pick<IKeyValue, 'key'>): string {
    return key.toString().slice(this.#namespace.length);
  }

  /** Milliseconds that an answer takes. @throws AppError */
  ping(): Promise<number> {
    return this.#answer(callDeadlineMs);
  }

  close(): void {
    this.#client.close();
  }

  async #answer(deadlineMs: number): Promise<number> {
    const begun = performance.now();
    await this.run((keys) =>
      keys
        .get('health')
        .options({ deadline: Date.now() + deadlineMs })
        .exec(),
    );
    return performance.now() - begun;
  }
}

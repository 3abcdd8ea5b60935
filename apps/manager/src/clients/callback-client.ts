import { promises as dns, type LookupAddress } from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import type { LookupFunction } from 'node:net';
import { AppError, type Clock } from '@backend.ai/core';
import { isLocalName, isPublicAddress, literalAddress } from './public-address.ts';

export interface CallbackClientOptions {
  readonly clock: Clock;
  /** For one request with its answer, in milliseconds. */
  readonly timeoutMs: number;
  /** Also to addresses of this machine and its networks. */
  readonly allowPrivate: boolean;
  /** For tests. */
  readonly resolve?: (hostname: string) => Promise<LookupAddress[]>;
}

/**
 * Sends requests to URLs that users gave. A name is resolved once and the connection goes to the address that was
 * checked, so that a name cannot mean another one a moment later. Redirections are not followed.
 */
export class CallbackClient {
  readonly #options: CallbackClientOptions;

  constructor(options: CallbackClientOptions) {
    this.#options = options;
  }

  /**
   * A URL whose address is known to be none that may be called; what another name means shows when it is called.
   * @throws AppError `callback-forbidden`
   */
  checkUrl(url: string): void {
    const target = new URL(url);
    const address = literalAddress(target);
    if (address !== null) this.#checkAddress(address);
    else if (!this.#options.allowPrivate && isLocalName(target)) throw forbidden(target.hostname);
  }

  /**
   * Answers the status, whatever it is.
   * @throws AppError `callback-forbidden`, or what the network says
   */
  async post(url: string, body: string, headers: Record<string, string>, signal: AbortSignal): Promise<number> {
    const target = new URL(url);
    this.checkUrl(url);
    const { clock, timeoutMs } = this.#options;
    const late = new AbortController();
    const cancel = clock.setTimer(timeoutMs, () => late.abort());
    const { request } = target.protocol === 'https:' ? https : http;
    try {
      return await new Promise<number>((resolve, reject) => {
        const sent = request(target, {
          method: 'POST',
          headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
          // A connection of its own: none that another request has opened.
          agent: false,
          lookup: this.#lookup,
          signal: AbortSignal.any([signal, late.signal]),
        });
        sent.on('response', (answer) => {
          resolve(answer.statusCode ?? 0);
          // Nobody reads what it says.
          answer.destroy();
        });
        sent.on('error', reject);
        sent.end(body);
      });
    } catch (cause) {
      if (!late.signal.aborted) throw cause;
      throw new AppError('deadline-exceeded', `There was no answer within ${timeoutMs} ms.`, { cause });
    } finally {
      cancel();
    }
  }

  readonly #lookup: LookupFunction = (hostname, options, callback) => {
    this.#resolve(hostname).then(
      ([first, ...others]) => {
        if (options.all) callback(null, [first, ...others]);
        else callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    );
  };

  async #resolve(hostname: string): Promise<[LookupAddress, ...LookupAddress[]]> {
    const found = await (this.#options.resolve ?? ((name) => dns.lookup(name, { all: true })))(hostname);
    const [first, ...others] = this.#options.allowPrivate
      ? found
      : found.filter(({ address }) => isPublicAddress(address));
    if (first) return [first, ...others];
    throw forbidden(hostname);
  }

  #checkAddress(address: string): void {
    if (!this.#options.allowPrivate && !isPublicAddress(address)) throw forbidden(address);
  }
}

function forbidden(host: string): AppError {
  return new AppError('callback-forbidden', `Callbacks do not go to ${host}: it is no public address.`);
}

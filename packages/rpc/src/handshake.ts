import { createHash, randomBytes } from 'node:crypto';
import type { PeerKind } from '@backend.ai/contract';
import { AppError, type Clock, type Deferred, deferred, hasCode, isErrorBody } from '@backend.ai/core';
import type { Duplex } from './duplex.ts';
import {
  isSignedBy,
  type JoiningPeer,
  type PeerDirectory,
  type PeerIdentity,
  peerIdPattern,
  signWith,
} from './identity.ts';

/**
 * Both ends prove who they are before any procedure can run:
 *
 *     caller → server   hello      who I am, my nonce
 *     server → caller   challenge  who I am, my nonce, my signature        the caller compares the key with its pins
 *     caller → server   proof      my signature, perhaps a join token      the server asks its directory
 *     server → caller   welcome    the limits of this server
 *
 * A signature covers the protocol, its direction, the TLS session, both nonces and both identities: it is worth nothing
 * in another connection, in the other direction or towards somebody else. A token travels only after the server has
 * proved itself, and is spent only after the proof was right.
 */

const protocol = 'backend.ai-rpc/1';
/** A token names the key of every manager, 44 characters each. */
const maxTokenLength = 4 * 1024;
const maxMessageBytes = maxTokenLength + 2 * 1024;
const maxHandshakeBytes = 16 * 1024;
export const handshakeTimeoutMs = 5_000;

const peerKinds: ReadonlySet<unknown> = new Set<PeerKind>([
  'manager',
  'agent',
  'storage-proxy',
  'coordinator',
  'worker',
]);
const keyPattern = /^[A-Za-z0-9_-]{43}$/;

/** What a server tells a caller it has accepted. */
export interface ServerLimits {
  readonly maxFrameBytes: number;
  readonly maxConcurrent: number;
}

interface Hello extends JoiningPeer {
  readonly nonce: string;
}

export interface ServerHandshakeOptions {
  readonly identity: PeerIdentity;
  readonly directory: PeerDirectory;
  readonly allow: readonly PeerKind[];
  readonly limits: ServerLimits;
  readonly clock: Clock;
}

/**
 * Accepts a caller, or closes the connection and throws. `onAccepted` takes over the duplex before the caller is told,
 * so that nothing it sends next is lost.
 * @throws AppError `peer-rejected`, `connection-lost`, or whatever the directory failed with
 */
export async function acceptPeer(
  duplex: Duplex,
  options: ServerHandshakeOptions,
  onAccepted: (peer: JoiningPeer) => void,
): Promise<void> {
  const { identity, directory } = options;
  const inbox = new HandshakeInbox(duplex, options.clock);
  try {
    const hello = parseHello(await inbox.next('hello'));
    if (!options.allow.includes(hello.kind))
      throw new AppError('peer-rejected', `Peers of kind ${hello.kind} are not served here.`);
    const nonce = newNonce();
    const sides: Sides = { binding: duplex.channelBinding, caller: hello, server: { ...publicPart(identity), nonce } };
    const signature = signWith(identity, transcript('server', sides, undefined));
    duplex.send(JSON.stringify({ type: 'challenge', ...sides.server, signature }));

    const proof = await inbox.next('proof');
    const token = parseToken(proof.token);
    if (!isSignedBy(hello.publicKey, transcript('caller', sides, token), String(proof.signature)))
      throw new AppError('peer-rejected', 'The caller did not prove that it owns its key.');
    await inbox.within(checkRegistered(directory, hello, token));
    inbox.release((text) => {
      throw new AppError('peer-rejected', 'The caller did not wait to be accepted.', { detail: text.slice(0, 100) });
    });
    inbox.assertOpen();
    onAccepted(hello);
    duplex.send(JSON.stringify({ type: 'welcome', ...options.limits }));
  } catch (thrown) {
    const error = AppError.from(thrown);
    inbox.release(() => {});
    duplex.send(JSON.stringify({ type: 'reject', error: error.toBody() }));
    duplex.close('rejected');
    throw error;
  }
}

async function checkRegistered(directory: PeerDirectory, peer: Hello, token: string | undefined): Promise<void> {
  const { kind, id, publicKey } = peer;
  if ((await directory.find(kind, id, publicKey)) === publicKey) return;
  if (token !== undefined && directory.join) {
    await directory.join(token, { kind, id, publicKey });
    if ((await directory.find(kind, id, publicKey)) === publicKey) return;
  }
  throw new AppError('peer-rejected', `The ${kind} ${id} is not registered here with this key.`);
}

export interface ClientHandshakeOptions {
  readonly identity: PeerIdentity;
  /** Public keys of the servers this process trusts. */
  readonly serverKeys: readonly string[];
  readonly token: string | undefined;
  readonly clock: Clock;
}

/**
 * Proves this process to a server that has proved itself, or closes the connection and throws. `onWelcome` takes over
 * the duplex in the turn in which the server's welcome is read.
 * @throws AppError `peer-rejected`, `connection-lost`
 */
export async function introduce(
  duplex: Duplex,
  options: ClientHandshakeOptions,
  onWelcome: (limits: ServerLimits) => void,
): Promise<void> {
  const { identity, token } = options;
  const inbox = new HandshakeInbox(duplex, options.clock);
  try {
    const caller = { ...publicPart(identity), nonce: newNonce() };
    duplex.send(JSON.stringify({ type: 'hello', protocol, ...caller }));

    const challenge = await inbox.next('challenge');
    const server = parsePeer(challenge);
    if (!options.serverKeys.includes(server.publicKey))
      throw new AppError('peer-rejected', `The server at ${duplex.remote} has another key than the expected one.`, {
        detail: { presented: server.publicKey },
      });
    const sides: Sides = { binding: duplex.channelBinding, caller, server };
    if (!isSignedBy(server.publicKey, transcript('server', sides, undefined), String(challenge.signature)))
      throw new AppError('peer-rejected', `The server at ${duplex.remote} did not prove that it owns its key.`);

    const signature = signWith(identity, transcript('caller', sides, token));
    duplex.send(JSON.stringify({ type: 'proof', signature, token }));
    const welcome = await inbox.next('welcome');
    const limits = {
      maxFrameBytes: positive(welcome.maxFrameBytes, 64 * 1024),
      maxConcurrent: positive(welcome.maxConcurrent, 1),
    };
    inbox.assertOpen();
    onWelcome(limits);
    inbox.release((text) => duplex.handler.onMessage(text));
  } catch (thrown) {
    inbox.release(() => {});
    duplex.close('handshake failed');
    throw AppError.from(thrown);
  }
}

interface Sides {
  readonly binding: string;
  readonly caller: Hello;
  readonly server: Hello;
}

/** A JSON array of strings is unambiguous: no two different handshakes have the same text. */
function transcript(by: 'caller' | 'server', sides: Sides, token: string | undefined): string {
  const { caller, server } = sides;
  const tokenHash = token === undefined ? '' : createHash('sha256').update(token).digest('base64url');
  const peer = (side: Hello): string[] => [side.kind, side.id, side.publicKey, side.nonce];
  return JSON.stringify([protocol, `signed by ${by}`, sides.binding, ...peer(caller), ...peer(server), tokenHash]);
}

const newNonce = (): string => randomBytes(32).toString('base64url');
const publicPart = ({ kind, id, publicKey }: PeerIdentity): JoiningPeer => ({ kind, id, publicKey });
const positive = (value: unknown, fallback: number): number =>
  typeof value === 'number' && value >= 1 ? value : fallback;

type Message = Readonly<Record<string, unknown>>;

function parseHello(message: Message): Hello {
  if (message.protocol !== protocol)
    throw new AppError('peer-rejected', `The caller speaks another protocol than ${protocol}.`, {
      hint: 'Run the same version on both ends.',
    });
  return parsePeer(message);
}

function parsePeer(message: Message): Hello {
  const { kind, id, publicKey, nonce } = message;
  const isPeer = peerKinds.has(kind) && typeof id === 'string' && peerIdPattern.test(id);
  if (!isPeer || !isKeyText(publicKey) || !isKeyText(nonce))
    throw new AppError('peer-rejected', 'A peer introduced itself in a malformed way.');
  return { kind: kind as PeerKind, id, publicKey, nonce };
}

const isKeyText = (value: unknown): value is string => typeof value === 'string' && keyPattern.test(value);

function parseToken(token: unknown): string | undefined {
  if (token === undefined || (typeof token === 'string' && token.length <= maxTokenLength)) return token;
  throw new AppError('peer-rejected', 'The join token is malformed.');
}

/** Reads the few messages of a handshake, each expected, bounded in size, all within one time limit. */
class HandshakeInbox {
  readonly #duplex: Duplex;
  readonly #cancelTimer: () => void;
  readonly #failed = deferred<never>();
  readonly #messages: string[] = [];
  #waiting: Deferred<string> | undefined;
  #closed: AppError | undefined;
  #released = false;

  constructor(duplex: Duplex, clock: Clock) {
    this.#duplex = duplex;
    this.#failed.promise.catch(() => {});
    duplex.limitInbound(maxHandshakeBytes);
    this.#cancelTimer = clock.setTimer(handshakeTimeoutMs, () =>
      this.#failed.reject(
        new AppError('peer-rejected', `${duplex.remote} did not introduce itself within ${handshakeTimeoutMs} ms.`),
      ),
    );
    duplex.handler = {
      onMessage: (text) => this.#take(text),
      onClose: (reason) => {
        const text = `${duplex.remote} closed the connection during the handshake: ${reason}.`;
        this.#closed = new AppError('connection-lost', text);
        this.#failed.reject(this.#closed);
      },
      onDrain() {},
    };
  }

  /** The line may have ended in the very turn that brought the last message. */
  assertOpen(): void {
    if (this.#closed) throw this.#closed;
  }

  #take(text: string): void {
    if (this.#waiting) {
      this.#waiting.resolve(text);
      this.#waiting = undefined;
    } else this.#messages.push(text);
  }

  async next(type: string): Promise<Message> {
    const waiting = deferred<string>();
    const early = this.#messages.shift();
    if (early === undefined) this.#waiting = waiting;
    else waiting.resolve(early);
    const message = parseMessage(await this.within(waiting.promise));
    if (message.type === 'reject' && isErrorBody(message.error)) throw rejection(this.#duplex, message.error);
    if (message.type !== type)
      throw new AppError('peer-rejected', `${this.#duplex.remote} did not send the ${type} of the handshake.`);
    return message;
  }

  within<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failed.promise]);
  }

  /** Ends the limits; what has arrived unread goes to `onLeftover`. */
  release(onLeftover: (text: string) => void): void {
    if (this.#released) return;
    this.#released = true;
    this.#cancelTimer();
    this.#duplex.liftInboundLimit();
    for (const text of this.#messages.splice(0)) onLeftover(text);
  }
}

function rejection(duplex: Duplex, body: Parameters<typeof AppError.fromBody>[0]): AppError {
  const error = AppError.fromBody(body);
  if (hasCode(error, 'peer-rejected', 'shutting-down', 'rate-limited')) return error;
  return new AppError('connection-lost', `${duplex.remote} could not decide whether to accept this peer.`, {
    cause: error,
  });
}

function parseMessage(text: string): Message {
  if (text.length > maxMessageBytes) throw new AppError('peer-rejected', 'A message of the handshake is too large.');
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Message;
  } catch {
    // What is no JSON is no message of a handshake.
  }
  throw new AppError('peer-rejected', 'A message of the handshake is malformed.');
}

import { channel } from 'node:diagnostics_channel';

/**
 * What happens so often that it is counted rather than told. Whoever does the work tells it here; whoever counts
 * (the metrics of a service) subscribes. With no subscriber it costs one comparison.
 */
export class Observation<T extends object> {
  readonly #channel;

  constructor(name: string) {
    this.#channel = channel(`backend.ai:${name}`);
  }

  /** Whether anybody listens: for those to whom already measuring is too much. */
  get wanted(): boolean {
    return this.#channel.hasSubscribers;
  }

  tell(value: T): void {
    if (this.#channel.hasSubscribers) this.#channel.publish(value);
  }

  /** Returns how to stop. */
  subscribe(listener: (value: T) => void): () => void {
    const receive = (value: unknown): void => listener(value as T);
    this.#channel.subscribe(receive);
    return () => void this.#channel.unsubscribe(receive);
  }
}

/** One pass of a reconciler. */
export interface LoopPass {
  readonly loop: string;
  readonly failed: boolean;
  readonly ms: number;
}

/** One operation that a peer asked for, after its answer. */
export interface RpcCall {
  /** Of the procedure; a fixed word for one that does not exist. */
  readonly path: string;
  /** `ok` or the code of the error. */
  readonly outcome: string;
  readonly ms: number;
}

/** One HTTP request, after its response. */
export interface HttpRequest {
  readonly method: string;
  /** Registered pattern of the URL; undefined for one that leads nowhere. */
  readonly route: string | undefined;
  /** Undefined when there was no response. */
  readonly status: number | undefined;
  readonly ms: number;
}

export const observations = {
  loopPass: new Observation<LoopPass>('loop-pass'),
  rpcCall: new Observation<RpcCall>('rpc-call'),
  httpRequest: new Observation<HttpRequest>('http-request'),
} as const;

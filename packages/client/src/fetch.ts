/** The part of `fetch` the SDK uses, so that anything of this shape can stand in its place. */

export interface FetchInit {
  readonly method: string;
  readonly headers: Record<string, string>;
  /** An iterable is sent chunk by chunk, as fast as the server takes it. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal;
  /** What `fetch` demands with a streamed body. */
  readonly duplex?: 'half';
}

export interface FetchResponse {
  readonly status: number;
  readonly ok: boolean;
  readonly headers: { get(name: string): string | null };
  readonly body: AsyncIterable<Uint8Array> | null;
  text(): Promise<string>;
}

export type Fetch = (url: string, init: FetchInit) => Promise<FetchResponse>;

/** The `fetch` of the runtime, looked up at each call so that tests and tools may replace it. */
export const globalFetch: Fetch = (url, init) => (globalThis.fetch as unknown as Fetch)(url, init);

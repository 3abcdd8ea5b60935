import { type HttpRequest, type LoopPass, observations, type RpcCall } from '@backend.ai/telemetry';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** From a hit in a cache to a call that waits for a kernel, in seconds. */
const durationBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** One of several numbers that differ by their labels. */
export interface LabelledValue {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Numbers of what comes and goes, asked for when somebody looks: what is not told then is gone at once. */
export interface SeriesOptions {
  /** `backend_…`, with the unit at its end; `_total` for what only grows. */
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  readonly labels: readonly string[];
  readonly collect: () => readonly LabelledValue[];
}

/** A number that is asked for when somebody looks; several when they differ by a label. */
export interface GaugeOptions {
  /** `backend_…`, with the unit at its end. */
  readonly name: string;
  readonly help: string;
  /** The name that the keys of a record are values of; needed with a record. */
  readonly label?: string;
  readonly collect: () =>
    | number
    | Readonly<Record<string, number>>
    | Promise<number | Readonly<Record<string, number>>>;
}

/**
 * What a service counts, in the Prometheus convention: base units (seconds, bytes) at the end of names, `_total` for what
 * only grows. Counts HTTP requests, RPC calls and passes of loops as they are observed in this process, and what
 * prom-client offers by itself: processor time, memory, handles, delays of the event loop, garbage collection.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #unsubscribe: ReadonlyArray<() => void>;

  /** @param component The label `component` of every value. */
  constructor(component: string) {
    this.#registry.setDefaultLabels({ component });
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    const httpRequests = new Counter({
      name: 'backend_http_requests_total',
      help: 'HTTP requests by route and status; status 0 for those without a response',
      labelNames: ['method', 'route', 'status'],
      registers,
    });
    const httpSeconds = new Histogram({
      name: 'backend_http_request_duration_seconds',
      help: 'Time from the head of an HTTP request to the end of its response',
      labelNames: ['method', 'route'],
      buckets: durationBuckets,
      registers,
    });
    const rpcCalls = new Counter({
      name: 'backend_rpc_calls_total',
      help: 'Operations that peers asked for, by procedure and outcome (ok or the code of the error)',
      labelNames: ['path', 'outcome'],
      registers,
    });
    const rpcSeconds = new Histogram({
      name: 'backend_rpc_call_duration_seconds',
      help: 'Time that operations of peers took',
      labelNames: ['path'],
      buckets: durationBuckets,
      registers,
    });
    const loopPasses = new Counter({
      name: 'backend_loop_passes_total',
      help: 'Passes of background loops by outcome (ok or failed)',
      labelNames: ['loop', 'outcome'],
      registers,
    });
    const loopSeconds = new Histogram({
      name: 'backend_loop_pass_duration_seconds',
      help: 'Time that passes of background loops took',
      labelNames: ['loop'],
      buckets: durationBuckets,
      registers,
    });
    this.#unsubscribe = [
      observations.httpRequest.subscribe(({ method, route = '(none)', status = 0, ms }: HttpRequest) => {
        httpRequests.inc({ method, route, status });
        httpSeconds.observe({ method, route }, ms / 1000);
      }),
      observations.rpcCall.subscribe(({ path, outcome, ms }: RpcCall) => {
        rpcCalls.inc({ path, outcome });
        rpcSeconds.observe({ path }, ms / 1000);
      }),
      observations.loopPass.subscribe(({ loop, failed, ms }: LoopPass) => {
        loopPasses.inc({ loop, outcome: failed ? 'failed' : 'ok' });
        loopSeconds.observe({ loop }, ms / 1000);
      }),
    ];
  }

  addGauge({ name, help, label, collect }: GaugeOptions): void {
    const labelNames = label === undefined ? [] : [label];
    const registers = [this.#registry];
    new Gauge<string>({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        const values = await collect();
        this.reset();
        if (typeof values === 'number') this.set(values);
        else
          for (const [key, value] of Object.entries(values))
            this.set(label === undefined ? {} : { [label]: key }, value);
      },
    });
  }

  addSeries({ name, help, type, labels, collect }: SeriesOptions): void {
    const options = { name, help, labelNames: [...labels], registers: [this.#registry] };
    if (type === 'gauge') {
      new Gauge<string>({
        ...options,
        collect() {
          this.reset();
          for (const { labels: of, value } of collect()) this.set({ ...of }, value);
        },
      });
      return;
    }
    new Counter<string>({
      ...options,
      collect() {
        this.reset();
        for (const { labels: of, value } of collect()) this.inc({ ...of }, value);
      },
    });
  }

  /** The text that Prometheus reads. */
  async render(): Promise<{ readonly contentType: string; readonly text: string }> {
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  /** Counts no more. */
  close(): void {
    for (const stop of this.#unsubscribe) stop();
    this.#registry.clear();
  }
}

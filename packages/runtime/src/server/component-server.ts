import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { ensureRequestId, type Logger } from '@backend.ai/telemetry';
import { type AdminHandlers, AdminSocket, adminSocketPath } from '../admin-socket.ts';
import { type DirectoryLock, lockDirectory } from '../directory-lock.ts';
import type { DependencyChecks } from '../health/dependency-checks.ts';
import { InternalServer, type ServiceState } from '../health/internal-server.ts';
import { Lifecycle, type Part } from '../lifecycle.ts';
import { type GaugeOptions, Metrics, type SeriesOptions } from '../metrics/metrics.ts';
import { namingPortOwner } from '../port-owner.ts';
import type { RunningService } from '../run-service.ts';

export interface ComponentServerOptions {
  /** `manager`: names its socket and everything that it counts. */
  readonly component: string;
  readonly version: string;
  /** Folder of the admin socket; the data folder around it is this process's alone. */
  readonly runDir: string;
  /** The internal port. */
  readonly metrics: { readonly host: string; readonly port: number };
  /** All of stopping may take this long, in milliseconds. */
  readonly stopDeadlineMs: number;
  readonly logger: Logger;
}

/** What there is to say of a component that has started. */
export interface StartedComponent {
  /** Where it is reached, by what is reached there. */
  readonly addresses: Readonly<Record<string, string>>;
  /** Of its admin socket. */
  readonly handlers: AdminHandlers;
  readonly dependencies: DependencyChecks;
  readonly gauges: readonly GaugeOptions[];
  readonly series?: readonly SeriesOptions[];
}

/**
 * Runs a component as a process of its own: its parts, in the lock of its data folder, then the socket for commands on
 * this machine and the internal port, which tells that it is ready when all of it has started.
 * @throws AppError `data-directory-locked`, `port-in-use`, and what keeps a part from starting
 */
export function startComponentServer(
  options: ComponentServerOptions,
  parts: readonly Part[],
  started: () => StartedComponent,
): Promise<RunningService> {
  return ensureRequestId(() =>
    start(options, parts, started).catch(async (error: unknown) => {
      throw await namingPortOwner(error);
    }),
  );
}

async function start(
  options: ComponentServerOptions,
  parts: readonly Part[],
  started: () => StartedComponent,
): Promise<RunningService> {
  const { component, version, runDir, logger, stopDeadlineMs } = options;
  const lifecycle = new Lifecycle({ logger, stopDeadlineMs });
  const metrics = new Metrics(component);
  let state: ServiceState = 'starting';
  let lock: DirectoryLock | undefined;
  let door: AdminSocket | undefined;
  let internal: InternalServer | undefined;
  let health = '';
  await lifecycle.start([
    { name: 'metrics', stop: () => metrics.close() },
    {
      name: 'data folder',
      async start() {
        mkdirSync(runDir, { recursive: true, mode: 0o700 });
        lock = await lockDirectory(dirname(runDir));
      },
      stop: () => lock?.release(),
    },
    ...parts,
    {
      name: 'admin socket',
      async start() {
        door = new AdminSocket(adminSocketPath(runDir, component), started().handlers, logger);
        await door.start();
      },
      stop: () => door?.stop(),
    },
    {
      name: 'internal port',
      async start() {
        const { dependencies, gauges, series = [] } = started();
        for (const gauge of gauges) metrics.addGauge(gauge);
        for (const each of series) metrics.addSeries(each);
        const { metrics: address } = options;
        internal = new InternalServer({
          ...{ ...address, component, version, dependencies, metrics, logger },
          state: () => state,
        });
        health = `${(await internal.start()).url}/health`;
      },
      stop: () => internal?.stop(),
    },
  ]);
  state = 'ready';
  return {
    addresses: { ...started().addresses, Health: health },
    async stop() {
      state = 'stopping';
      await lifecycle.stop();
    },
  };
}

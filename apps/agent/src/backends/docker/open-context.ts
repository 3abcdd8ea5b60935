import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { IsolationReport } from '@backend.ai/contract';
import { type Clock, canonicalArchitecture, type Subnet, Turns } from '@backend.ai/core';
import { BackgroundTasks, type Logger } from '@backend.ai/telemetry';
import { UidPool, uidBaseOf } from '../../resources/uid-pool.ts';
import { installRunner } from '../../runner/runner-installation.ts';
import { agentUser } from '../scratch/draft.ts';
import { KeptHomes } from '../scratch/kept-homes.ts';
import { uidsInScratch } from '../scratch/scratch.ts';
import { carryPrograms } from './carried-programs.ts';
import { limitsWithin } from './container-options.ts';
import type { DockerContext } from './draft.ts';
import type { Engine, EngineInfo } from './engine.ts';
import { type Firewall, findFirewall } from './firewall.ts';
import { guardMachine } from './guard-machine.ts';
import { DockerImageEngine } from './images/docker-image-engine.ts';
import { ImageStore } from './images/image-store.ts';
import { InstalledImages } from './images/installed-images.ts';
import { withDeadlines } from './images/with-deadlines.ts';
import { keepKnownEngine } from './known-engine.ts';
import type { Owner } from './labels.ts';
import { SessionNetworks } from './session-networks.ts';
import { SwarmMembership } from './swarm.ts';

export interface ContextOptions {
  readonly engine: Engine;
  readonly owner: Owner;
  /** Of the engine. */
  readonly socketPath: string;
  readonly dataDir: string;
  readonly scratchDir: string;
  /** Where the networks of sessions on this machine get their addresses, and those over the swarm. */
  readonly pool: Subnet;
  readonly clusterPool: Subnet;
  /** Bits of the network of one session. */
  readonly subnetPrefix: number;
  /** How many of them are to be ready for sessions to come. */
  readonly spareNetworks: number;
  readonly readOnlyRoot: boolean;
  readonly allowUnguarded: boolean;
  /** Instead of that of this machine; null: none. */
  readonly firewall?: Firewall | null | undefined;
  readonly processLimit: number;
  readonly startDeadlineMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Starts that the engine is given at a time: of more it makes fewer in the same time, and each of them takes longer. */
const startsAtOnce = 8;
/** A fetch that says nothing new for so long has failed. */
const pullStallMs = 60_000;
/** Others put images into the engine, too, and make swarms of engines. */
const engineScanMs = 20_000;

/**
 * What all kernels share, as far as the engine has a say in it: it has to answer. Nothing goes on in the background yet.
 * @throws AppError `engine-unavailable`, `engine-failed`, `isolation-unavailable`
 */
export async function openContext(options: ContextOptions): Promise<DockerContext> {
  const { engine, owner, dataDir, scratchDir, pool, clusterPool, subnetPrefix, clock, logger } = options;
  const { socketPath: socket } = options;
  const info = await engine.info();
  const traits = await engine.traits();
  const imageEngine = withDeadlines(engine, new DockerImageEngine(engine.docker));
  const images = new ImageStore({
    ...{ engine: imageEngine, clock, pullStallMs },
    tasks: new BackgroundTasks(logger),
    architecture: canonicalArchitecture(info.Architecture),
  });
  const networks = (firewall: Firewall | null): SessionNetworks =>
    new SessionNetworks({
      ...{ engine, owner, pool, prefix: subnetPrefix, spares: options.spareNetworks, firewall, clock, logger },
    });
  // What comes with the first container is looked for then.
  const areMadeHere = async (): Promise<boolean> => !traits.makesBridgesAhead || (await networks(null).areMadeHere());
  const { firewall: given = findFirewall(pool), allowUnguarded } = options;
  const firewall = await guardMachine(given, { areMadeHere, allowUnguarded, logger });
  const isolation = isolationOf(info, firewall !== null);
  const installed = new InstalledImages({
    ...{ engine: imageEngine, clock, logger, tickMs: engineScanMs },
    onChange: (found) => keepKnownEngine(dataDir, { socket, isolation, images: found }),
  });
  const swarm = new SwarmMembership({ engine, pool, clusterPool, clock, logger, tickMs: engineScanMs });
  await Promise.all([installed.scan(), swarm.look()]);
  keepKnownEngine(dataDir, { socket, isolation, images: installed.images });
  const uids = new UidPool(uidBaseOf(owner.installationId));
  const keptHomes = new KeptHomes(join(dataDir, 'kept-homes'));
  for (const uid of [...uidsInScratch(scratchDir), ...keptHomes.owners()]) uids.take(uid);
  const security = (info.SecurityOptions ?? []).join(' ');
  logger.info('container engine ready', {
    engine: info.ServerVersion,
    isolation,
    images: installed.images.map(({ name }) => name),
  });
  return {
    ...{ owner, engine, traits, images, installed, swarm, uids, keptHomes, isolation, clock, logger },
    networks: networks(firewall),
    turns: new Turns(startsAtOnce),
    offers: new Map(),
    runnerFolder: installRunner(dataDir),
    carried: shared(() => carryPrograms(dataDir)),
    // An engine without root maps its own user to root of the container.
    agentInside: security.includes('name=rootless') ? { uid: 0, gid: 0 } : agentUser(),
    shiftsUsers: security.includes('name=userns'),
    knowsIPv6: existsSync('/proc/sys/net/ipv6/conf/all'),
    outlivesEngine: traits.keepsContainers || info.LiveRestoreEnabled === true,
    processLimit: options.processLimit,
    limits: limitsWithin(readFileSync('/proc/self/limits', 'utf8'), readFileSync('/proc/self/status', 'utf8')),
    readOnlyRoot: options.readOnlyRoot,
    startDeadlineMs: options.startDeadlineMs,
  };
}

/** Only what the engine says it can limit counts as limited. */
export function isolationOf(
  { MemoryLimit, PidsLimit, CpuCfsQuota }: Partial<EngineInfo>,
  guarded: boolean,
): IsolationReport {
  return {
    sandbox: 'docker',
    ownUid: process.getuid?.() === 0,
    memory: MemoryLimit === false ? 'none' : 'cgroup',
    processes: PidsLimit === false ? 'none' : 'cgroup',
    cpu: CpuCfsQuota === false ? 'none' : 'cgroup',
    network: 'isolated',
    machine: guarded ? 'closed' : 'open',
    egress: guarded ? 'enforced' : 'open',
  };
}

/** The same answer for all who ask; what failed is tried again. */
function shared<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

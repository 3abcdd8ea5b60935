import type { IsolationReport, ServicePort } from '@backend.ai/contract';
import type { Clock, ResourceSlots, Subnet, Turns } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { UidPool } from '../../resources/uid-pool.ts';
import type { KernelUser, ScratchDraft } from '../scratch/draft.ts';
import { type KernelFacts, sharedFacts, writeFacts } from '../scratch/facts.ts';
import type { KeptHomes } from '../scratch/kept-homes.ts';
import type { CarriedPrograms } from './carried-programs.ts';
import type { UserLimits } from './container-options.ts';
import type { DockerKernel } from './docker-kernel.ts';
import type { ContainerInfo, Engine } from './engine.ts';
import type { EngineTraits } from './engine-traits.ts';
import type { ImageStore } from './images/image-store.ts';
import type { InstalledImages } from './images/installed-images.ts';
import type { KernelImage } from './kernel-image.ts';
import type { Owner } from './labels.ts';
import type { SessionNetworks } from './session-networks.ts';
import type { SwarmMembership } from './swarm.ts';

/** What all kernels of a backend share. */
export interface DockerContext {
  readonly owner: Owner;
  readonly engine: Engine;
  readonly traits: EngineTraits;
  readonly images: ImageStore;
  readonly installed: InstalledImages;
  readonly swarm: SwarmMembership;
  readonly networks: SessionNetworks;
  /** Of starts, in what the engine has to do for them. */
  readonly turns: Turns;
  /** What kernels of an image offer that has been looked into, by its id: nothing of an image changes. */
  readonly offers: Map<string, readonly ServicePort[]>;
  readonly uids: UidPool;
  readonly keptHomes: KeptHomes;
  readonly runnerFolder: string;
  /** For images that need it. */
  readonly carried: () => Promise<CarriedPrograms | null>;
  readonly isolation: IsolationReport;
  /** Who the agent's user is in a container. */
  readonly agentInside: KernelUser;
  readonly shiftsUsers: boolean;
  readonly knowsIPv6: boolean;
  /** Whether the engine says that it lets containers outlive it. */
  readonly outlivesEngine: boolean;
  readonly processLimit: number;
  readonly limits: UserLimits;
  readonly readOnlyRoot: boolean;
  /** How long a runner may take to its first answer, in milliseconds. */
  readonly startDeadlineMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A kernel in a container in the making. */
export interface DockerDraft extends ScratchDraft {
  readonly slots: ResourceSlots;
  /** Whose network it is in: that of its session, or of the warm slot that it was. */
  readonly network: string;
  /** Absent: it was started for its session. */
  readonly warm: WarmFacts | null;
  /** Of its container; the only thing by which one is found whose making was not answered. */
  readonly containerName: string;
  image: KernelImage | null;
  /** Addresses of its network, once that has been made. */
  subnet: Subnet | null;
  containerId: string | null;
  /** As the engine described it once it ran. */
  container: ContainerInfo | null;
  /** What the image offers; an adopted kernel knows it from its facts. */
  services: readonly ServicePort[];
  kernel: DockerKernel | null;
}

/** Of what was started ahead. */
export interface WarmFacts {
  /** `idle`: its runner has answered, and it belongs to nobody. */
  readonly state: 'starting' | 'idle' | 'claimed';
  /** What its programs have besides what comes with a session, by its origin; known once its image is. */
  environment: { readonly image: Readonly<Record<string, string>>; readonly devices: Readonly<Record<string, string>> };
  /** Of the image that it was made of. */
  imageId: string;
}

export interface DockerFacts extends KernelFacts {
  readonly backend: 'docker';
  readonly containerName: string;
  readonly services: readonly ServicePort[];
  readonly warm?: WarmFacts | undefined;
  /** The name of its network. Absent: it was in none yet, or in one that is called after its session. */
  readonly network?: string | undefined;
}

export function saveFacts(
  draft: DockerDraft,
  { owner, networks }: Pick<DockerContext, 'owner' | 'networks'>,
  state: KernelFacts['state'],
): void {
  const { spec, image, containerName, services, warm } = draft;
  const isClaimed = !warm || warm.state === 'claimed';
  const facts: DockerFacts = {
    // A slot never runs for anybody: whoever does not know of slots removes it.
    ...sharedFacts(draft, owner.installationId, isClaimed ? state : 'preparing'),
    backend: 'docker',
    image: image?.name ?? spec.image,
    containerName,
    services,
    network: networks.findName(draft.network),
    ...(warm ? { warm: isClaimed ? warm : { ...warm, state: state === 'running' ? 'idle' : 'starting' } } : {}),
  };
  writeFacts(draft.paths, facts);
}

import type { IsolationReport, ServicePort } from '@backend.ai/contract';
import type { Clock, ResourceSlots } from '@backend.ai/core';
import type { Logger } from '@backend.ai/telemetry';
import type { UidPool } from '../../resources/uid-pool.ts';
import type { KernelUser, ScratchDraft } from '../scratch/draft.ts';
import { type KernelFacts, sharedFacts, writeFacts } from '../scratch/facts.ts';
import type { KeptHomes } from '../scratch/kept-homes.ts';
import type { CarriedPrograms } from './carried-programs.ts';
import type { DockerKernel } from './docker-kernel.ts';
import type { Engine } from './engine.ts';
import type { ImageStore } from './images/image-store.ts';
import type { InstalledImages } from './images/installed-images.ts';
import type { KernelImage } from './kernel-image.ts';
import type { Owner } from './labels.ts';
import type { SessionNetworks } from './session-networks.ts';

/** What all kernels of a backend share. */
export interface DockerContext {
  readonly owner: Owner;
  readonly engine: Engine;
  readonly images: ImageStore;
  readonly installed: InstalledImages;
  readonly networks: SessionNetworks;
  readonly uids: UidPool;
  readonly keptHomes: KeptHomes;
  readonly runnerFolder: string;
  /** For images that need it. */
  readonly carried: () => Promise<CarriedPrograms | null>;
  readonly isolation: IsolationReport;
  /** Who the agent's user is in a container. */
  readonly agentInside: KernelUser;
  readonly shiftsUsers: boolean;
  readonly processLimit: number;
  readonly openFiles: number;
  readonly readOnlyRoot: boolean;
  /** How long a runner may take to its first answer, in milliseconds. */
  readonly startDeadlineMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A kernel in a container in the making. */
export interface DockerDraft extends ScratchDraft {
  readonly slots: ResourceSlots;
  /** Of its container; the only thing by which one is found whose making was not answered. */
  readonly containerName: string;
  image: KernelImage | null;
  containerId: string | null;
  /** What the image offers; an adopted kernel knows it from its facts. */
  services: readonly ServicePort[];
  kernel: DockerKernel | null;
}

export interface DockerFacts extends KernelFacts {
  readonly backend: 'docker';
  readonly containerName: string;
  readonly services: readonly ServicePort[];
}

export function saveFacts(
  draft: DockerDraft,
  { owner }: Pick<DockerContext, 'owner'>,
  state: KernelFacts['state'],
): void {
  const { spec, image, containerName, services } = draft;
  const facts: DockerFacts = {
    ...sharedFacts(draft, owner.installationId, state),
    backend: 'docker',
    image: image?.name ?? spec.image,
    containerName,
    services,
  };
  writeFacts(draft.paths, facts);
}

import {
  type EgressPolicy,
  type ImageSource,
  type KernelCluster,
  type KernelSpec,
  rpcVersions,
  type SshKeyPair,
} from '@backend.ai/contract';
import { transientDeadlines } from '@backend.ai/core';
import type { ClusterMember } from '../../repositories/kernels.ts';
import type { SessionOptions } from '../../repositories/session-rows.ts';
import type { OwnedDotfile } from '../../repositories/session-transitions.ts';
import { effectiveDotfiles } from '../dotfiles/effective-dotfiles.ts';

/** What the database knows of a kernel that is to be started. */
export interface KernelToStart {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly agentId: string | null;
  readonly name: string;
  readonly accessKey: string;
  readonly image: string;
  readonly clusterRole: 'main' | 'sub';
  readonly clusterIndex: number;
  readonly hostname: string;
  readonly slots: Record<string, string>;
  readonly environ: Record<string, string>;
  readonly options: SessionOptions;
  /** Of its key pair, project and domain; null: none. */
  readonly dotfiles: OwnedDotfile[] | null;
  /** Of its resource group; null: it does not say. */
  readonly allowFractionalResourceFragmentation: boolean | null;
  /** Of its resource group, as it is now; null: that is gone. */
  readonly egress: EgressPolicy | null;
}

/** What the kernels of a session have in common. */
export interface ClusterToStart {
  readonly members: readonly ClusterMember[];
  readonly keyPair: SshKeyPair;
  /** By which containers on several machines reach each other; undefined: otherwise. */
  readonly network?: string | undefined;
}

/** A bootstrap script has three quarters of the time that a kernel may take until it runs. */
const bootstrapTimeoutMs = Math.floor((transientDeadlines.CREATING?.afterMs ?? 60_000) * 0.75);

/**
 * What its agent is told. Fields that do not apply are absent, so that agents of earlier versions start it, too.
 * @param cluster All kernels of its session in the order of their ranks, and their key pair; absent when it is alone.
 * @param imageSource Where to fetch its image; absent when only agents have it.
 */
export function kernelSpecOf(
  kernel: KernelToStart,
  cluster?: ClusterToStart | undefined,
  imageSource?: ImageSource | undefined,
): KernelSpec {
  const { sessionId, kernelId, name, accessKey, image, clusterRole, clusterIndex, hostname, slots, options } = kernel;
  const { startupCommand, timeoutMs, bootstrapScript, preopenPorts, shmem } = options;
  const isMain = clusterRole === 'main';
  return {
    kernelId,
    sessionId,
    sessionName: name,
    accessKey,
    image,
    ...(imageSource ? { imageSource } : {}),
    clusterRole,
    clusterIndex,
    hostname,
    slots,
    environ: { ...kernel.environ, ...ownerEnviron(options.owner) },
    ...(cluster ? { cluster: clusterOf(kernel, cluster), sshKeyPair: cluster.keyPair } : {}),
    ...(shmem ? { shmem: Number(shmem) } : {}),
    ...(kernel.dotfiles ? { dotfiles: effectiveDotfiles(kernel.dotfiles) } : {}),
    ...(preopenPorts && preopenPorts.length > 0 ? { preopenPorts: [...preopenPorts] } : {}),
    ...(kernel.allowFractionalResourceFragmentation === false ? { allowFractionalResourceFragmentation: false } : {}),
    ...(kernel.egress && kernel.egress.policy !== 'open' ? { egress: kernel.egress } : {}),
    ...(bootstrapScript ? { bootstrap: { script: bootstrapScript, timeoutMs: bootstrapTimeoutMs } } : {}),
    ...(startupCommand && isMain
      ? {
          batch: {
            startupCommand,
            ...(timeoutMs ? { timeoutMs } : {}),
            ...(cluster && beginsOnOrder(kernel, cluster.members) ? { onOrder: true as const } : {}),
          },
        }
      : {}),
  };
}

/** A job for which others have to run as well begins on an order, at agents that know of that. */
function beginsOnOrder({ hostname }: KernelToStart, members: readonly ClusterMember[]): boolean {
  const own = members.find((member) => member.hostname === hostname);
  return (own?.agentRpcVersion ?? 0) >= rpcVersions.beginBatch;
}

function clusterOf(kernel: KernelToStart, { members, network }: ClusterToStart): KernelCluster {
  const main = members.filter(({ role }) => role === 'main').length;
  return {
    localRank: members.findIndex(({ hostname }) => hostname === kernel.hostname),
    replicas: { main, sub: members.length - main },
    hosts: members.map(({ hostname: name, agentId, agentAddress }) => {
      const isNear = network !== undefined || agentId === kernel.agentId;
      const address = isNear ? undefined : agentAddress?.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
      return address ? { name, address } : { name };
    }),
    ...(network === undefined ? {} : { network }),
  };
}

/** Who owns the session, for its programs. The agent adds what tells of the kernel and its cluster. */
function ownerEnviron(owner: SessionOptions['owner']): Record<string, string> {
  if (!owner) return {};
  return {
    BACKENDAI_USER_UUID: owner.id,
    BACKENDAI_USER_EMAIL: owner.email,
    BACKENDAI_USER_NAME: owner.name,
  };
}

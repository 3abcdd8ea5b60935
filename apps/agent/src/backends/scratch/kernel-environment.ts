import type { KernelSpec } from '@backend.ai/contract';
import type { KernelUser } from './draft.ts';
import type { KernelView } from './kernel-view.ts';

/**
 * The whole environment of a kernel: nothing of the agent's own gets in. What the user asked for may not hide who it is.
 * @param given What the image or the machine says, `PATH` above all
 * @param devices What its accelerators need
 */
export function kernelEnvironment(
  spec: KernelSpec,
  view: KernelView,
  { uid, gid }: KernelUser,
  given: Readonly<Record<string, string>>,
  devices: Readonly<Record<string, string>>,
): Record<string, string> {
  return {
    LANG: 'C.UTF-8',
    TERM: 'xterm',
    SHELL: '/bin/sh',
    ...given,
    GPU_COUNT: '0',
    N_GPUS: '0',
    ...spec.environ,
    ...devices,
    HOME: view.home,
    USER: 'work',
    LOGNAME: 'work',
    TMPDIR: view.tmp,
    LOCAL_USER_ID: String(uid),
    LOCAL_GROUP_ID: String(gid),
    BACKENDAI_KERNEL_ID: spec.kernelId,
    BACKENDAI_SESSION_ID: spec.sessionId,
    BACKENDAI_SESSION_NAME: spec.sessionName,
    BACKENDAI_ACCESS_KEY: spec.accessKey,
    BACKENDAI_KERNEL_IMAGE: spec.image,
    BACKENDAI_SERVICE_DIR: view.run,
    BACKENDAI_CONFIG_DIR: view.config,
    ...clusterEnvironment(spec),
    ...(spec.preopenPorts ? { BACKENDAI_PREOPEN_PORTS: spec.preopenPorts.join(',') } : {}),
  };
}

/** A session of one kernel is a cluster of one. */
function clusterEnvironment({ clusterRole, clusterIndex, hostname, cluster }: KernelSpec): Record<string, string> {
  const hosts = cluster?.hosts.map(({ name }) => name) ?? [hostname];
  const { main, sub } = cluster?.replicas ?? { main: 1, sub: 0 };
  return {
    BACKENDAI_CLUSTER_ROLE: clusterRole,
    BACKENDAI_CLUSTER_IDX: String(clusterIndex),
    BACKENDAI_CLUSTER_HOST: hostname,
    BACKENDAI_CLUSTER_HOSTS: hosts.join(','),
    BACKENDAI_CLUSTER_SIZE: String(hosts.length),
    BACKENDAI_CLUSTER_REPLICAS: sub > 0 ? `main:${main},sub:${sub}` : `main:${main}`,
    BACKENDAI_CLUSTER_LOCAL_RANK: String(cluster?.localRank ?? 0),
  };
}

import { dirname } from 'node:path';
import type { KernelSpec } from '@backend.ai/contract';
import type { KernelView } from './launcher.ts';
import type { Runtime } from './runtimes.ts';

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The whole environment of a kernel: nothing of the agent's own gets in. What the user asked for may not hide who it is. */
export function kernelEnvironment(
  spec: KernelSpec,
  { interpreter }: Runtime,
  view: KernelView,
): Record<string, string> {
  const folder = dirname(interpreter.path);
  const path = systemPath.split(':').includes(folder) ? systemPath : `${folder}:${systemPath}`;
  return {
    PATH: path,
    LANG: 'C.UTF-8',
    TERM: 'xterm',
    SHELL: '/bin/sh',
    ...spec.environ,
    HOME: view.home,
    USER: 'work',
    LOGNAME: 'work',
    TMPDIR: view.tmp,
    BACKENDAI_KERNEL_ID: spec.kernelId,
    BACKENDAI_SESSION_ID: spec.sessionId,
    BACKENDAI_SESSION_NAME: spec.sessionName,
    BACKENDAI_ACCESS_KEY: spec.accessKey,
    BACKENDAI_CLUSTER_ROLE: spec.clusterRole,
    BACKENDAI_CLUSTER_IDX: String(spec.clusterIndex),
    BACKENDAI_CLUSTER_HOST: spec.hostname,
    BACKENDAI_KERNEL_IMAGE: spec.image,
    BACKENDAI_SERVICE_DIR: view.run,
  };
}

import type { KernelUsage, ProjectUsage } from '@backend.ai/contract';
import { publicStatus } from './session-shapes.ts';

/** Usage in the words of the official REST API. */

/**
 * What a kernel had and used, and what those of a project did together. Memory and traffic in bytes, processor time in
 * ms.
 */
const amounts = {
  cpu_allocated: ({ slots }) => Number(slots.cpu ?? 0),
  cpu_used: ({ metrics }) => metrics.cpu_used?.current ?? 0,
  mem_allocated: ({ slots }) => Number(slots.mem ?? 0),
  mem_used: ({ metrics }) => metrics.mem?.max ?? 0,
  shared_memory: ({ sharedMemoryBytes }) => sharedMemoryBytes,
  // There are no quotas of disks.
  disk_allocated: () => 0,
  disk_used: ({ metrics }) => metrics.io_scratch_size?.max ?? 0,
  io_read: ({ metrics }) => metrics.io_read?.current ?? 0,
  io_write: ({ metrics }) => metrics.io_write?.current ?? 0,
  // What devices are made of is not kept.
  smp: () => 0,
  gpu_mem_allocated: () => 0,
  gpu_allocated: ({ slots }) =>
    Object.entries(slots).reduce(
      (sum, [slot, amount]) => sum + (['cpu', 'mem'].includes(slot) ? 0 : Number(amount)),
      0,
    ),
} as const satisfies Record<string, (kernel: KernelUsage) => number>;
type Amounts = Record<keyof typeof amounts, number>;

const names = Object.keys(amounts) as (keyof Amounts)[];
const amountsOf = (kernel: KernelUsage): Amounts =>
  Object.fromEntries(names.map((name) => [name, amounts[name](kernel)])) as Amounts;

function totalOf({ kernels }: ProjectUsage): Amounts {
  const parts = kernels.map(amountsOf);
  return Object.fromEntries(names.map((name) => [name, parts.reduce((sum, part) => sum + part[name], 0)])) as Amounts;
}

/** One of `GET /resource/usage/month`. */
export function projectAnswer(project: ProjectUsage): Record<string, unknown> {
  const total = totalOf(project);
  return {
    domain_name: project.domain,
    g_id: project.id,
    g_name: project.name,
    ...Object.fromEntries(names.map((name) => [`g_${name}`, total[name]])),
    g_device_type: [],
    c_infos: project.kernels.map((kernel) => kernelAnswer(project, kernel)),
  };
}

/** One of `GET /resource/usage/period`: clients of later versions read the names without a prefix. */
export function periodAnswer(project: ProjectUsage): Record<string, unknown> {
  return {
    ...projectAnswer(project),
    project_id: project.id,
    project_name: project.name,
    total_usage: { ...totalOf(project), device_type: [], nfs: [] },
  };
}

function kernelAnswer({ id, name, domain }: ProjectUsage, kernel: KernelUsage): Record<string, unknown> {
  const { beganAt, endedAt } = kernel;
  const [beganMs, endedMs] = [Date.parse(beganAt), endedAt === null ? null : Date.parse(endedAt)];
  return {
    id: kernel.kernelId,
    session_id: kernel.sessionId,
    container_id: kernel.kernelId,
    domain_name: domain,
    group_id: id,
    group_name: name,
    name: kernel.sessionName,
    access_key: kernel.accessKey,
    email: kernel.email,
    full_name: kernel.fullName,
    agent: kernel.agent,
    ...amountsOf(kernel),
    used_time: endedMs === null ? null : elapsed(endedMs - beganMs),
    used_days: endedMs === null ? null : dayNumber(endedMs) - dayNumber(beganMs) + 1,
    device_type: [],
    nfs: null,
    image_id: kernel.image,
    image_name: kernel.image,
    created_at: moment(beganAt),
    // As official clients print it.
    terminated_at: endedAt === null ? 'None' : moment(endedAt),
    status: publicStatus(kernel.status),
    status_info: kernel.reason,
    status_changed: moment(Object.values(kernel.history).reduce((a, b) => (a > b ? a : b), endedAt ?? beganAt)),
    status_history: kernel.history,
    cluster_mode: kernel.clusterMode,
  };
}

const dayMs = 24 * 3_600_000;
const dayNumber = (ms: number): number => Math.floor(ms / dayMs);

/** `2025-01-31 10:20:30.456000+00:00` */
function moment(iso: string): string {
  return iso.replace('T', ' ').replace('Z', '000+00:00');
}

/** `2 days, 3:04:05.006000` */
function elapsed(ms: number): string {
  const days = dayNumber(ms);
  const time = new Date(ms - days * dayMs).toISOString().slice(11, -1).replace(/^0/, '');
  return `${days === 0 ? '' : `${days} day${days === 1 ? '' : 's'}, `}${time}000`;
}

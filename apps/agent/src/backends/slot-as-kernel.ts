import type { KernelSpec, WarmSlotSpec } from '@backend.ai/contract';

/** What a kernel has that belongs to nobody: the identity of the slot stands where that of a session will. */
export function slotAsKernel({ slotId, ...slot }: WarmSlotSpec): KernelSpec {
  return {
    ...slot,
    ...{ kernelId: slotId, sessionId: slotId, sessionName: 'warm-slot', accessKey: '' },
    ...{ clusterRole: 'main', clusterIndex: 1, hostname: 'main1', environ: {} },
  };
}

export function slotOfKernel(kernel: KernelSpec): WarmSlotSpec {
  const { kernelId, image, imageSource, slots, shmem, egress, allowFractionalResourceFragmentation } = kernel;
  return {
    ...{ slotId: kernelId, image, slots },
    ...(imageSource ? { imageSource } : {}),
    ...(shmem === undefined ? {} : { shmem }),
    ...(egress ? { egress } : {}),
    ...(allowFractionalResourceFragmentation === undefined ? {} : { allowFractionalResourceFragmentation }),
  };
}

/** Comes into a kernel that runs: through its runner, or into its folders. */
const comesLater: ReadonlySet<string> = new Set<keyof KernelSpec>([
  'sessionId',
  'sessionName',
  'accessKey',
  'environ',
  'dotfiles',
  'preopenPorts',
  'bootstrap',
  'batch',
]);

/**
 * Whether an order asks for what the slot is, and besides only for what comes later. What nobody thought of does not
 * suit.
 */
export function suitsSlot(order: KernelSpec, slot: WarmSlotSpec): boolean {
  const there = slotAsKernel(slot) as Readonly<Record<string, unknown>>;
  const asked = order as Readonly<Record<string, unknown>>;
  const names = new Set([...Object.keys(there), ...Object.keys(asked)]);
  return [...names].every((name) => comesLater.has(name) || isSame(name, asked[name], there[name]));
}

function isSame(name: string, asked: unknown, there: unknown): boolean {
  if (name === 'imageSource') return contentsOf(asked) === contentsOf(there);
  // What is not scattered suits those who do not mind.
  if (name === 'allowFractionalResourceFragmentation') return asked !== false || there === false;
  return textOf(asked) === textOf(there);
}

/** Credentials are those of the moment. */
function contentsOf(source: unknown): string {
  const { digest, manifestDigest } = (source ?? {}) as { digest?: unknown; manifestDigest?: unknown };
  return textOf([digest, manifestDigest]);
}

/** Of plain values, whatever the order of their keys. */
function textOf(value: unknown): string {
  return (
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
        : part,
    ) ?? ''
  );
}

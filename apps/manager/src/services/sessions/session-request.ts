import type { CreateSessionInput, Image, UserActor } from '@backend.ai/contract';
import {
  AppError,
  addSlots,
  amountForPeople,
  amountToText,
  fits,
  isPrivateType,
  lackingSlots,
  parseBinarySize,
  parseResourceSlots,
  type ResourceSlots,
  type SessionType,
  slotsFromTexts,
} from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import { capacitiesOf } from '../agents/agent-capacity.ts';
import type { ResolvedImage } from '../images/image-service.ts';

/** Pure checks of what a user asked for, against what the cluster could give at best. */

/** @throws AppError `forbidden` */
export function checkRights(input: CreateSessionInput, owner: Pick<UserActor, 'role'>): void {
  if (owner.role === 'superadmin') return;
  const refuse = (field: keyof CreateSessionInput, text: string): never => {
    throw new AppError('forbidden', text, { data: { fields: { [field]: 'is for superadmins' } } });
  };
  if (input.designatedAgents.length > 0) refuse('designatedAgents', 'Only superadmins name the agents of a session.');
  if (isPrivateType(input.type)) refuse('type', 'Only superadmins create system sessions.');
}

/** @throws AppError `invalid-input` for an image of the platform's own in a session of a user */
export function checkRole({ name, role }: Image, type: SessionType): void {
  if (role !== 'system' || isPrivateType(type)) return;
  throw new AppError('invalid-input', `The image ${name} is for system sessions.`, {
    data: { fields: { image: 'is for system sessions' } },
  });
}

function wrongFields(fields: Record<string, string>): AppError {
  const text = Object.entries(fields).map(([name, problem]) => `${name} ${problem}`);
  return new AppError('invalid-input', `Invalid input: ${text.join('; ')}.`, { data: { fields } });
}

/** Of the cluster that the kernels of a session make: `main1`, `sub1`, `sub2` … */
export function kernelPlaces(clusterSize: number): KernelPlace[] {
  const main: KernelPlace = { role: 'main', index: 1, hostname: 'main1' };
  const subs = Array.from({ length: clusterSize - 1 }, (_, at): KernelPlace => {
    return { role: 'sub', index: at + 1, hostname: `sub${at + 1}` };
  });
  return [main, ...subs];
}

export interface KernelPlace {
  readonly role: 'main' | 'sub';
  /** From 1, within the role. */
  readonly index: number;
  readonly hostname: string;
}

/** The amounts of one kernel, and how much of its memory is shared memory. */
export interface DecidedSlots {
  readonly slots: ResourceSlots;
  /** In bytes; null: nothing was said of it. */
  readonly shmem: bigint | null;
}

/**
 * The amounts each kernel gets: what was asked, and the image's minimum for the rest. Shared memory is a part of the
 * memory and comes on top of the image's minimum.
 * @param knownSlots Of which any agent has something.
 * @throws AppError `unknown-slot`, `invalid-input`, `insufficient-capacity`
 */
export function decideSlots(
  request: Pick<CreateSessionInput, 'resources' | 'resourceOpts' | 'clusterMode' | 'clusterSize'>,
  { image, agents }: ResolvedImage,
  knownSlots: ReadonlySet<string>,
): DecidedSlots {
  const asked = parseResourceSlots(request.resources, knownSlots);
  const shmem = parseShmem(request.resourceOpts.shmem) ?? (image.shmem === undefined ? null : BigInt(image.shmem));
  const imageLeast = slotsFromTexts(image.minSlots);
  const least = shmem === null ? imageLeast : addSlots(imageLeast, { mem: shmem * 1000n });
  const wanted = { ...least, ...asked };
  // An amount of zero does not stand in `asked`: who asks for none of what the image needs is refused, too.
  const isNone = (name: string): boolean => (request.resources[name] ?? null) !== null && asked[name] === undefined;
  const none = Object.keys(least).filter((name) => (least[name] ?? 0n) > 0n && isNone(name));
  if (shmem !== null && shmem * 1000n >= (wanted.mem ?? 0n)) throw sharedMemoryTooLarge(request, shmem);
  const below = [...none, ...lackingSlots(least, wanted)];
  if (below.length > 0) {
    const fields = below.map((name) => `${name} is at least ${amountForPeople(name, least[name] ?? 0n)}`);
    throw new AppError('invalid-input', `The image ${image.name} needs more: ${fields.join(', ')}.`, {
      data: {
        fields: Object.fromEntries(below.map((name) => [`resources.${name}`, 'is below the minimum of the image'])),
      },
    });
  }
  const most = slotsFromTexts(image.maxSlots ?? {});
  const above = Object.keys(most).filter((name) => (wanted[name] ?? 0n) > (most[name] ?? 0n));
  if (above.length > 0) {
    const fields = above.map((name) => `${name} is at most ${amountForPeople(name, most[name] ?? 0n)}`);
    throw new AppError('invalid-input', `The image ${image.name} takes no more: ${fields.join(', ')}.`, {
      data: {
        fields: Object.fromEntries(above.map((name) => [`resources.${name}`, 'is above the maximum of the image'])),
      },
    });
  }
  checkAccelerators(image, wanted);
  // One that no agent could have now waits for one that can.
  if (agents.length === 0) return { slots: wanted, shmem };
  // On a single node all kernels have to find room together.
  const together = request.clusterMode === 'single-node' ? times(request.clusterSize, wanted) : wanted;
  const capacities = [...capacitiesOf(agents).values()].flat();
  if (!capacities.some((capacity) => fits(together, capacity))) throw tooLarge(together, capacities);
  return { slots: wanted, shmem };
}

/**
 * An image that says for which accelerators it is made can do nothing with others, and whoever has them has them for
 * nothing. Without any it may be of use: one that is not says so by its minimum.
 */
function checkAccelerators({ name, accelerators = [] }: Image, wanted: ResourceSlots): void {
  const wrong = Object.keys(wanted).filter((slot) => {
    const [family = '', kind] = slot.split('.');
    return kind !== undefined && (wanted[slot] ?? 0n) > 0n && !accelerators.includes(family);
  });
  if (accelerators.length === 0 || wrong.length === 0) return;
  const made = accelerators.join(', ');
  throw new AppError('invalid-input', `The image ${name} is made for ${made}, not for ${wrong.join(', ')}.`, {
    hint: 'Ask for slots of these, for none, or for another image. What an image is made for: ./backend.ai image info IMAGE',
    data: { fields: Object.fromEntries(wrong.map((slot) => [`resources.${slot}`, `is none of ${made}`])) },
  });
}

/** What so many kernels have together. */
export function times(count: number, slots: ResourceSlots): ResourceSlots {
  return Object.fromEntries(Object.entries(slots).map(([name, amount]) => [name, amount * BigInt(count)]));
}

function parseShmem(text: string | null | undefined): bigint | null {
  if (text === null || text === undefined || text === '') return null;
  try {
    return parseBinarySize(text);
  } catch {
    throw wrongFields({ 'resourceOpts.shmem': 'is not a size such as 64m' });
  }
}

/** Names the field that was set: who did not ask for shared memory gets what the image wants. */
function sharedMemoryTooLarge({ resourceOpts }: Pick<CreateSessionInput, 'resourceOpts'>, shmem: bigint): AppError {
  if (resourceOpts.shmem) return wrongFields({ 'resourceOpts.shmem': 'must be less than the memory' });
  const size = amountForPeople('mem', shmem * 1000n);
  return wrongFields({ 'resources.mem': `must be more than ${size}, which the image wants as shared memory alone` });
}

function tooLarge(wanted: ResourceSlots, capacities: readonly ResourceSlots[]): AppError {
  const largestOf = (name: string): bigint =>
    capacities.reduce((most, capacity) => ((capacity[name] ?? 0n) > most ? (capacity[name] ?? 0n) : most), 0n);
  const exceeding = Object.keys(wanted).filter((name) => (wanted[name] ?? 0n) > largestOf(name));
  // Each amount alone may fit somewhere, but not all of them on one agent.
  const named = exceeding.length > 0 ? exceeding : Object.keys(wanted);
  const slots = Object.fromEntries(
    named.map((name) => [
      name,
      { asked: amountToText(wanted[name] ?? 0n), largestAgent: amountToText(largestOf(name)) },
    ]),
  );
  const text = named.map((name) => {
    const [asked, largest] = [wanted[name] ?? 0n, largestOf(name)].map((amount) => amountForPeople(name, amount));
    return `${name}: asked for ${asked}, the largest agent has ${largest}`;
  });
  const fields = Object.fromEntries(named.map((name) => [`resources.${name}`, 'is more than any agent has']));
  return new AppError('insufficient-capacity', `No agent is large enough. ${text.join('; ')}.`, {
    data: { fields, slots },
  });
}

/** The group named, or those of agents that could take it, in the order in which they are tried; `default` is preferred. */
export function decideResourceGroups(
  named: string | null | undefined,
  slots: ResourceSlots,
  agents: readonly AgentRecord[],
): [string, ...string[]] {
  if (named) return [named];
  const able = [...capacitiesOf(agents)].flatMap(([group, capacities]) =>
    capacities.some((capacity) => fits(slots, capacity)) ? group : [],
  );
  const [first, ...others] = able.sort((a, b) => Number(b === 'default') - Number(a === 'default') || (a < b ? -1 : 1));
  return [first ?? 'default', ...others];
}

import type { KernelSpec, WarmSlotSpec } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { type KernelResources, kernelResources, unknownAllocation } from '../../resources/kernel-resources.ts';
import type { BackendWarmSlots, CreateStep, KernelPlan, RecoveredSlot, SlotPlan } from '../backend.ts';
import { userInside } from '../scratch/draft.ts';
import { allocationOf } from '../scratch/facts.ts';
import { kernelEnvironment } from '../scratch/kernel-environment.ts';
import { ownView } from '../scratch/kernel-view.ts';
import { slotAsKernel, slotOfKernel, suitsSlot } from '../slot-as-kernel.ts';
import { type DockerContext, type DockerDraft, type DockerFacts, saveFacts } from './draft.ts';
import type { ContainerInfo } from './engine.ts';
import { kernelOf } from './steps/start-container.ts';

export interface DockerWarmSlotsOptions {
  readonly context: () => DockerContext;
  readonly drafts: Set<DockerDraft>;
  readonly draftOf: (
    spec: KernelSpec,
    requestId: string,
    resources: KernelResources,
    facts?: DockerFacts,
  ) => DockerDraft;
  readonly planOf: (draft: DockerDraft) => KernelPlan;
  /** What an earlier life left, each with its container, if there is one; known once kernels are recovered. */
  readonly left: () => ReadonlyArray<readonly [facts: DockerFacts, container: ContainerInfo | null]>;
}

/** Steps that a slot and a kernel have in common: a slot has run them. */
const madeAhead: ReadonlySet<string> = new Set([
  'make-scratch',
  'allocate-uid',
  'ensure-image',
  'make-network',
  'create-container',
  'start-container',
]);

/**
 * Containers that are started ahead: each with a folder, a user id and a network of its own, and a runner that waits. A
 * session that takes one gets all of that as it is, since nobody has had it before.
 */
export class DockerWarmSlots implements BackendWarmSlots {
  readonly #options: DockerWarmSlotsOptions;

  constructor(options: DockerWarmSlotsOptions) {
    this.#options = options;
  }

  plan(slot: WarmSlotSpec, requestId: string, resources: KernelResources): SlotPlan {
    const draft = this.#options.draftOf(slotAsKernel(slot), requestId, resources);
    return this.#planOf({
      ...draft,
      network: slot.slotId,
      warm: { state: 'starting', environment: { image: {}, devices: {} }, imageId: '' },
    });
  }

  async recover(): Promise<RecoveredSlot[]> {
    const { context, drafts, draftOf, left } = this.#options;
    const slots = left().filter(([{ warm }]) => warm && warm.state !== 'claimed');
    return slots.map(([facts, container]) => {
      const { spec, requestId, warm } = facts;
      const allocation = allocationOf(facts);
      const draft = draftOf(spec, requestId, kernelResources(allocation ?? unknownAllocation), facts);
      draft.containerId = container?.Id ?? null;
      const isReady = warm?.state === 'idle' && container?.State.Running === true;
      if (isReady && container) {
        draft.container = container;
        draft.kernel = kernelOf(draft, context(), container);
        draft.kernel.followRunner();
        drafts.add(draft);
      }
      return { spec: slotOfKernel(spec), requestId, allocation, plan: this.#planOf(draft), isReady };
    });
  }

  #planOf(draft: DockerDraft): SlotPlan {
    return {
      ...this.#options.planOf(draft),
      resources: draft.resources,
      claim: (spec, requestId) => (this.#suits(spec, draft) ? this.#claim(spec, requestId, draft) : undefined),
    };
  }

  #suits(order: KernelSpec, { spec, warm, kernel }: DockerDraft): boolean {
    const { keptHomes, installed } = this.#options.context();
    // Another image may have its name by now.
    const named = order.imageSource ? undefined : installed.images.find(({ name }) => name === order.image)?.digest;
    return (
      kernel !== null &&
      warm !== null &&
      suitsSlot(order, slotOfKernel(spec)) &&
      (named === undefined || named === warm.imageId) &&
      !keptHomes.has(order)
    );
  }

  #claim(spec: KernelSpec, requestId: string, slot: DockerDraft): KernelPlan {
    const warm = slot.warm && { ...slot.warm, state: 'claimed' as const };
    const draft: DockerDraft = { ...slot, spec, requestId, warm };
    const plan = this.#options.planOf(draft);
    const steps = plan.steps.map((step): CreateStep => {
      if (madeAhead.has(step.name)) return { ...step, made: true };
      return step.name === 'await-runner' ? this.#handOver(draft, slot) : step;
    });
    return { ...plan, steps: [this.#claimFacts(draft, slot), ...steps] };
  }

  /** Before anything of the session comes into it: from here on it is nobody else's, whatever becomes of the agent. */
  #claimFacts(draft: DockerDraft, slot: DockerDraft): CreateStep {
    const { context, drafts } = this.#options;
    return {
      name: 'claim-slot',
      run() {
        saveFacts(draft, context(), 'preparing');
        drafts.add(draft);
        drafts.delete(slot);
      },
      // The facts go with the folder.
      undo() {},
    };
  }

  #handOver(draft: DockerDraft, slot: DockerDraft): CreateStep {
    return {
      name: 'hand-over',
      run: async (signal) => {
        const context = this.#options.context();
        const { container, warm, spec } = draft;
        if (!container || !warm) throw new AppError('internal', 'The slot was taken before it ran.');
        slot.kernel?.close();
        draft.kernel = kernelOf(draft, context, container);
        await draft.kernel.connectRunner(context.startDeadlineMs, signal);
        const { image, devices } = warm.environment;
        const environment = kernelEnvironment(spec, ownView, userInside(draft), image, devices);
        await draft.kernel.claimRunner(environment, context.startDeadlineMs);
        if (!spec.bootstrap) saveFacts(draft, context, 'running');
      },
      // The step that started the container takes back what runs in it.
      undo() {},
    };
  }
}

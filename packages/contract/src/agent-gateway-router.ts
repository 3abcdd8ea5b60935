import { z } from 'zod';
import { type AgentRegistration, agentRegistrationSchema, type Heartbeat, heartbeatSchema } from './agent.ts';
import { agentImagesSchema, type Image } from './image.ts';
import { type KernelEvent, kernelEventSchema } from './kernel.ts';
import { type CallContext, procedureFor, router } from './link.ts';
import { maxWarmSlots, type WarmSlotReport, warmSlotReportSchema } from './warm-slot.ts';

/** agent → manager. */

const reportEventsInput = z.object({
  agentId: z.string(),
  /** In order of `seq`. */
  events: z.array(kernelEventSchema).min(1).max(500),
});

const reportWarmSlotsInput = z.object({ agentId: z.string(), slots: z.array(warmSlotReportSchema).max(maxWarmSlots) });
const reportImagesInput = z.object({ agentId: z.string(), images: agentImagesSchema });

/** Part of every reply to an agent that says how things stand. */
export interface ManagersKnown {
  /** Public keys of all managers that may give orders now; an agent keeps them. Absent from managers before 0.2. */
  readonly managerKeys?: readonly string[];
}

export interface RegistrationReply extends ManagersKnown {
  readonly heartbeatMs: number;
  /** Events up to here are known; the outbox drops them. */
  readonly ackedSeq: number;
}

export interface HeartbeatReply extends ManagersKnown {
  /** Kernels the manager does not know or has given up: the agent ends them. */
  readonly unknownKernels: string[];
}

export interface AgentGatewayService {
  /** Announces an agent after each start and each reconnection. @throws AppError `peer-rejected` for a foreign agent id */
  register(input: AgentRegistration, ctx: CallContext): Promise<RegistrationReply>;
  heartbeat(input: Heartbeat, ctx: CallContext): Promise<HeartbeatReply>;
  /** Answers after the events are in the database. Events at or below the acknowledged number are skipped. */
  reportEvents(input: { agentId: string; events: KernelEvent[] }, ctx: CallContext): Promise<{ ackedSeq: number }>;
  /** All images that it has now; told when they have changed since it registered. */
  reportImages(input: { agentId: string; images: Image[] }, ctx: CallContext): Promise<void>;
  /** All warm slots that it has now; told when one of them has changed. Agents that were never given any never tell. */
  reportWarmSlots(input: { agentId: string; slots: WarmSlotReport[] }, ctx: CallContext): Promise<void>;
}

export function createAgentGatewayRouter(service: AgentGatewayService) {
  const idempotent = procedureFor('peer', { idempotent: true, deadlineMs: 10_000 });
  return router({
    register: idempotent.input(agentRegistrationSchema).mutation(({ input, ctx }) => service.register(input, ctx)),
    heartbeat: idempotent.input(heartbeatSchema).mutation(({ input, ctx }) => service.heartbeat(input, ctx)),
    reportEvents: idempotent.input(reportEventsInput).mutation(({ input, ctx }) => service.reportEvents(input, ctx)),
    reportWarmSlots: idempotent
      .input(reportWarmSlotsInput)
      .mutation(({ input, ctx }) => service.reportWarmSlots(input, ctx)),
    reportImages: idempotent.input(reportImagesInput).mutation(({ input, ctx }) => service.reportImages(input, ctx)),
  });
}

export type AgentGatewayRouter = ReturnType<typeof createAgentGatewayRouter>;

import { z } from 'zod';
import { type AgentView, agentIdSchema, agentStatuses } from './agent.ts';
import { type CallContext, procedureFor, router } from './link.ts';
import { resourceNameSchema } from './resource-policy.ts';

/** What superadmins see and change of agents. */

export const agentRefSchema = z.strictObject({ id: agentIdSchema });
export const listAgentsSchema = z.strictObject({
  status: z.enum(agentStatuses).optional(),
  resourceGroup: resourceNameSchema.optional(),
});
export const modifyAgentSchema = z.strictObject({
  id: agentIdSchema,
  /** False: its sessions go on, new ones go elsewhere. */
  schedulable: z.boolean().optional(),
  /** Where it belongs from now on, whatever it says when it registers again. */
  resourceGroup: resourceNameSchema.optional(),
  /** Moves it although it has kernels: their sessions are ended. */
  force: z.boolean().default(false),
});
export type ListAgentsInput = z.infer<typeof listAgentsSchema>;
export type ModifyAgentInput = z.infer<typeof modifyAgentSchema>;

export interface AgentAdminView extends AgentView {
  readonly address: string | null;
  readonly schedulable: boolean;
  /** That hold or may hold resources there. */
  readonly kernels: number;
  readonly lostAt: string | null;
}

export interface AgentAdminApi {
  list(input: ListAgentsInput, ctx: CallContext): Promise<AgentAdminView[]>;
  get(input: { id: string }, ctx: CallContext): Promise<AgentAdminView>;
  /** What is absent stays as it is. */
  modify(input: ModifyAgentInput, ctx: CallContext): Promise<AgentAdminView>;
}

export function createAgentAdminRouter(agents: AgentAdminApi) {
  const read = procedureFor('agent:read');
  return router({
    list: read.input(listAgentsSchema).query(({ input, ctx }) => agents.list(input, ctx)),
    get: read.input(agentRefSchema).query(({ input, ctx }) => agents.get(input, ctx)),
    modify: procedureFor('agent:modify')
      .input(modifyAgentSchema)
      .mutation(({ input, ctx }) => agents.modify(input, ctx)),
  });
}

import type { AgentAdminApi, AgentAdminView, ListAgentsInput, ModifyAgentInput } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { AgentAdministrationRepository } from '../../repositories/agent-administration.ts';
import type { SessionService } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import type { MachineStatistics } from '../statistics/machine-statistics.ts';
import type { AgentDirectory } from './agent-directory.ts';
import { toAgentView } from './agent-view.ts';

/** What superadmins do with agents. */
export class AgentAdminService implements AgentAdminApi {
  readonly #agents: AgentAdministrationRepository;
  readonly #directory: AgentDirectory;
  readonly #sessions: SessionService;
  readonly #machines: MachineStatistics;

  constructor(
    agents: AgentAdministrationRepository,
    directory: AgentDirectory,
    sessions: SessionService,
    machines: MachineStatistics,
  ) {
    this.#agents = agents;
    this.#directory = directory;
    this.#sessions = sessions;
    this.#machines = machines;
  }

  async list(filter: ListAgentsInput): Promise<AgentAdminView[]> {
    const [details, agents] = await Promise.all([this.#agents.details(filter), this.#directory.reload()]);
    const views = details.map(async ({ id, kernels, lostAt }) => {
      const agent = agents.byId.get(id);
      if (!agent) return [];
      const { address, schedulable } = agent;
      const view = toAgentView(agent, await this.#machines.find(id));
      return [{ ...view, address, schedulable, kernels, lostAt: lostAt && toIso(lostAt) }];
    });
    return (await Promise.all(views)).flat();
  }

  /** @throws AppError `object-not-found` */
  async get({ id }: { id: string }): Promise<AgentAdminView> {
    const found = (await this.list({})).find((agent) => agent.id === id);
    if (!found) throw new AppError('object-not-found', `There is no agent "${id}".`);
    return found;
  }

  /** @throws AppError `object-not-found`, `state-conflict` when it has kernels and is to be moved without force */
  async modify({ id, ...values }: ModifyAgentInput): Promise<AgentAdminView> {
    const outcome = await this.#agents.modify(id, values);
    if (outcome === 'absent') throw new AppError('object-not-found', `There is no agent "${id}".`);
    if (outcome === 'not-empty') {
      throw new AppError('state-conflict', `The agent ${id} has kernels: its sessions belong to its present group.`, {
        hint: 'Keep it from new sessions (--no-schedulable) and wait until they have ended, or end them with --force.',
      });
    }
    if (values.force && values.resourceGroup !== undefined) {
      for (const sessionId of await this.#agents.sessionsAt(id)) {
        await this.#sessions.end(sessionId, 'admin-requested', false);
      }
    }
    this.#directory.announce(id);
    return await this.get({ id });
  }
}

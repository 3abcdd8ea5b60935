import type { AgentAdminApi, AgentAdminView, ListAgentsInput, ModifyAgentInput } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { AgentAdministrationRepository } from '../../repositories/agent-administration.ts';
import type { SessionService } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';
import type { AgentDirectory } from './agent-directory.ts';
import { toAgentView } from './agent-view.ts';

/** What superadmins do with agents. */
export class AgentAdminService implements AgentAdminApi {
  readonly #agents: AgentAdministrationRepository;
  readonly #directory: AgentDirectory;
  readonly #sessions: SessionService;

  constructor(agents: AgentAdministrationRepository, directory: AgentDirectory, sessions: SessionService) {
    this.#agents = agents;
    this.#directory = directory;
    this.#sessions = sessions;
  }

  async list(filter: ListAgentsInput): Promise<AgentAdminView[]> {
    const [details, agents] = await Promise.all([this.#agents.details(filter), this.#directory.reload()]);
    return details.flatMap(({ id, kernels, lostAt }) => {
      const agent = agents.get(id);
      if (!agent) return [];
      const { address, schedulable } = agent;
      return [{ ...toAgentView(agent), address, schedulable, kernels, lostAt: lostAt && toIso(lostAt) }];
    });
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

import {
  type AllowResourceGroupInput,
  type CallContext,
  type CreateResourceGroupInput,
  type ListUsableGroupsInput,
  type ModifyResourceGroupInput,
  type ResourceGroupAdminApi,
  type ResourceGroupSummary,
  type ResourceGroupView,
  resourceGroupOptionsSchema,
  scopeOf,
} from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { sqlStateOf, sqlStates } from '@backend.ai/database';
import type { ResourceGroupRecord, ResourceGroupRepository } from '../../repositories/resource-groups.ts';
import { actorOf } from '../sessions/session-service.ts';
import { toIso } from '../sessions/session-view.ts';

/** Resource groups, for those who use them and for those who arrange them. */
export class ResourceGroupService {
  readonly #groups: ResourceGroupRepository;
  /** To be called when what the scheduler goes by has changed. */
  readonly #onChange: () => void;

  constructor(groups: ResourceGroupRepository, onChange: () => void) {
    this.#groups = groups;
    this.#onChange = onChange;
  }

  /** @throws AppError `object-not-found` for a project that is not the caller's */
  async usable({ project }: ListUsableGroupsInput, ctx: CallContext): Promise<ResourceGroupSummary[]> {
    const actor = actorOf(ctx);
    const projects = await this.#groups.projects(scopeOf(actor, 'session:create'), project);
    if (project !== undefined && projects.length === 0) {
      throw new AppError('object-not-found', `There is no project "${project}" for you.`);
    }
    const ids = projects.map(({ id }) => id);
    return (await this.#groups.usable(actor, ids)).map((group) => ({
      name: group.name,
      description: group.description,
      isDefault: group.isDefault,
      scheduler: group.scheduler,
      allowedSessionTypes: optionsOf(group).allowedSessionTypes,
    }));
  }

  readonly admin: ResourceGroupAdminApi = {
    list: async () => (await this.#groups.list()).map(toView),
    get: ({ name }) => this.#get(name),
    create: (input) => this.#create(input),
    modify: (input) => this.#modify(input),
    delete: ({ name }) => this.#delete(name),
    allow: (input) => this.#allow(input),
    disallow: async ({ name, to }) => {
      await this.#groups.disallow(name, to);
      return await this.#get(name);
    },
  };

  async #get(name: string): Promise<ResourceGroupView> {
    const found = await this.#groups.find(name);
    return found ? toView(found) : absent(name);
  }

  async #create({ name, ...values }: CreateResourceGroupInput): Promise<ResourceGroupView> {
    if (!(await this.#groups.create(name, values))) {
      throw new AppError('object-exists', `There is a resource group "${name}" already.`);
    }
    this.#onChange();
    return await this.#get(name);
  }

  async #modify({ name, ...values }: ModifyResourceGroupInput): Promise<ResourceGroupView> {
    if (!(await this.#groups.modify(name, values))) absent(name);
    this.#onChange();
    return await this.#get(name);
  }

  async #delete(name: string): Promise<void> {
    const outcome = await this.#groups.delete(name);
    if (outcome === 'absent') absent(name);
    if (outcome === 'used') {
      throw new AppError('state-conflict', `The resource group "${name}" has agents or sessions.`, {
        hint: 'Move its agents to another group and wait for its sessions to end; --no-active keeps new ones out.',
      });
    }
    this.#onChange();
  }

  async #allow({ name, to }: AllowResourceGroupInput): Promise<ResourceGroupView> {
    await this.#get(name);
    try {
      await this.#groups.allow(name, to);
    } catch (cause) {
      if (sqlStateOf(cause) !== sqlStates.foreignKeyViolation) throw cause;
      const [[kind, id]] = Object.entries(to) as [[string, string]];
      const noun = kind === 'accessKey' ? 'key pair' : kind;
      throw new AppError('object-not-found', `There is no ${noun} "${id}".`, { cause });
    }
    return await this.#get(name);
  }
}

function absent(name: string): never {
  throw new AppError('object-not-found', `There is no resource group "${name}".`);
}

/** Those of an older version may lack what is new, which then has its default. */
function optionsOf(group: ResourceGroupRecord): ResourceGroupView['options'] {
  return resourceGroupOptionsSchema.parse(group.options);
}

function toView(group: ResourceGroupRecord): ResourceGroupView {
  const { domains, projects, accessKeys, createdAt, ...rest } = group;
  return {
    ...rest,
    options: optionsOf(group),
    allowed: { domains, projects, accessKeys },
    createdAt: toIso(createdAt),
  };
}

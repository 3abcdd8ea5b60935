import { type CreateSessionInput, type CreateSessionResult, scopeOf, type UserActor } from '@backend.ai/contract';
import { AppError, checkSessionName, type KernelId, newId, type SessionId, slotsToTexts } from '@backend.ai/core';
import { requireRequestId } from '@backend.ai/telemetry';
import type { AuditEntry } from '../../repositories/audit.ts';
import type { SessionOptions } from '../../repositories/session-rows.ts';
import type { NewKernel, NewSession, SessionRepository } from '../../repositories/sessions.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { type ImageService, viewerOf } from '../images/image-service.ts';
import { afterOthers } from './session-changes.ts';
import { checkRights, checkRole, decideResourceGroups, decideSlots, kernelPlaces, times } from './session-request.ts';
import { newRecord, toSessionView } from './session-view.ts';

export interface SessionCreationOptions {
  readonly sessions: SessionRepository;
  readonly images: ImageService;
  readonly agents: AgentDirectory;
  readonly audit: AuditLog;
  /** @throws AppError `callback-forbidden` */
  readonly checkCallback: (url: string) => void;
  readonly onCreated: (session: NewSession, created: { createdAt: string; projectId: string }) => void;
}

/** Records what users want to run. Nothing is left behind by a request that is refused. */
export class SessionCreation {
  readonly #options: SessionCreationOptions;

  constructor(options: SessionCreationOptions) {
    this.#options = options;
  }

  /**
   * Records a session as PENDING and returns.
   * @throws AppError `invalid-session-name`, `unknown-image`, `no-agent`, `unknown-slot`,
   * `insufficient-capacity`, `invalid-input`, `forbidden`, `callback-forbidden`, `session-exists`
   */
  async create(input: CreateSessionInput, owner: UserActor): Promise<CreateSessionResult> {
    const id = newId<SessionId>();
    const { name, type, image, project, resourceGroup, resources, clusterSize } = input;
    const target = { kind: 'session', id, domain: input.domain ?? owner.domain };
    const changes = { name, type, image, project, resourceGroup, resources, clusterSize };
    const change = { actor: owner, action: 'session:create', target, changes } as const;
    return await this.#options.audit.within(change, (audit) => this.#create(id, input, owner, audit));
  }

  async #create(
    id: SessionId,
    input: CreateSessionInput,
    owner: UserActor,
    audit: AuditEntry,
  ): Promise<CreateSessionResult> {
    checkRights(input, owner);
    if (input.callbackUrl) this.#checkCallback(input.callbackUrl);
    const name = input.name === undefined ? `session-${id.slice(-12)}` : checkSessionName(input.name);
    const { images, agents } = this.#options;
    const resolved = await images.resolve(input.image, input.architecture, viewerOf(owner));
    checkRole(resolved.image, input.type);
    const { slots, shmem } = decideSlots(input, resolved, (await agents.known()).slotNames);
    const kernels = kernelPlaces(input.clusterSize).map((place): NewKernel => ({ ...place, id: newId<KernelId>() }));
    const [main] = kernels as [NewKernel, ...NewKernel[]];
    const [resourceGroup, ...otherGroups] = decideResourceGroups(input.resourceGroup, slots, resolved.agents);
    const session: NewSession = {
      id,
      kernelId: main.id,
      kernels,
      name,
      domain: input.domain ?? owner.domain,
      project: input.project ?? null,
      owner: {
        userId: owner.userId,
        accessKey: owner.accessKey,
        mayUse: scopeOf(owner, 'session:create'),
      },
      type: input.type,
      image: resolved.image.name,
      architecture: resolved.image.architecture,
      imageOrigin: resolved.origin,
      tag: input.tag ?? null,
      clusterMode: input.clusterMode,
      resourceGroup,
      otherGroups,
      slots: slotsToTexts(times(input.clusterSize, slots)),
      kernelSlots: slotsToTexts(slots),
      environ: input.environ,
      options: optionsOf(input, shmem),
      priority: input.priority,
      jobPriority: input.jobPriority,
      isPreemptible: input.isPreemptible,
      failurePolicy: input.failurePolicy ?? 'strict',
      startsNotBefore: input.startsAt ?? null,
      designatedAgents: input.designatedAgents,
      callbackUrl: input.callbackUrl ?? null,
      dependencies: await this.#dependencies(input.dependencies, owner.accessKey),
      requestId: requireRequestId(),
    };
    return await this.#insert(session, audit, input.reuseIfExists);
  }

  #checkCallback(url: string): void {
    try {
      this.#options.checkCallback(url);
    } catch (thrown) {
      const { code, message } = AppError.from(thrown);
      throw new AppError(code, message, { data: { fields: { callbackUrl: 'is no public address' } }, cause: thrown });
    }
  }

  /** Ids of the owner's sessions that are named; none of them may have failed already. */
  async #dependencies(refs: readonly string[], accessKey: string): Promise<string[]> {
    if (refs.length === 0) return [];
    const found = await this.#options.sessions.findDependencies(refs, accessKey);
    const refuse = (ref: string, problem: string): never => {
      throw new AppError('invalid-input', `The dependency "${ref}" ${problem}.`, {
        data: { fields: { dependencies: `"${ref}" ${problem}` } },
      });
    };
    for (const ref of refs) {
      const session = found.find((row) => row.ref === ref) ?? refuse(ref, 'is no session of yours');
      if (session.type !== 'batch') refuse(ref, 'is no batch session: only those end with success');
      if (session.failed) refuse(ref, 'has ended without success');
    }
    return [...new Set(found.map((row) => row.id))];
  }

  async #insert(
    session: NewSession,
    audit: AuditEntry,
    reuseIfExists: boolean,
    tries = 3,
  ): Promise<CreateSessionResult> {
    const { sessions, onCreated } = this.#options;
    const outcome = await sessions.insert(session, audit);
    switch (outcome.kind) {
      case 'created': {
        const created = { ...session, project: outcome.project, resourceGroup: outcome.resourceGroup };
        onCreated(created, outcome);
        await afterOthers();
        return { session: toSessionView(newRecord(created, outcome)), created: true };
      }
      case 'exists': {
        const same = outcome.image === session.image && outcome.architecture === session.architecture;
        if (!same || !reuseIfExists) {
          throw new AppError('session-exists', `A session named "${session.name}" exists already.`, {
            data: { existingSessionId: outcome.id },
          });
        }
        const existing = await sessions.findById(outcome.id);
        if (existing) return { session: toSessionView(existing), created: false };
        break;
      }
      case 'no-project':
        throw noProject(session);
      case 'no-resource-group':
        throw new AppError(
          'invalid-input',
          `There is no resource group "${session.resourceGroup}" for you that takes ${session.type} sessions.`,
          {
            hint: 'Those that you may use are listed by: ./backend.ai scaling-group list',
            data: { fields: { resourceGroup: 'does not exist, or is not for you or this type of session' } },
          },
        );
      case 'over-limit':
        throw new AppError('quota-exceeded', `Your resource policy does not allow it: ${outcome.limit} is reached.`, {
          data: { scope: 'keypair', limit: outcome.limit },
        });
      case 'raced':
        break;
    }
    if (tries <= 1) throw new AppError('state-conflict', `Sessions named "${session.name}" come and go.`);
    return await this.#insert(session, audit, reuseIfExists, tries - 1);
  }
}

function noProject({ project, domain }: Pick<NewSession, 'project' | 'domain'>): AppError {
  const hint = 'Name one of yours: --domain DOMAIN --group GROUP. They are listed by: ./backend.ai admin group list';
  return project === null
    ? new AppError('invalid-input', `You have no project in ${domain}, or several and none of them is "default".`, {
        hint,
        data: { fields: { project: 'has to be named' } },
      })
    : new AppError('invalid-input', `There is no project "${project}" in ${domain} for you.`, {
        hint,
        data: { fields: { project: 'does not exist, or you are not a member' } },
      });
}

function optionsOf(input: CreateSessionInput, shmem: bigint | null): SessionOptions {
  const { startupCommand, timeoutMs, bootstrapScript, preopenPorts } = input;
  return {
    ...(startupCommand ? { startupCommand } : {}),
    ...(timeoutMs ? { timeoutMs } : {}),
    ...(bootstrapScript ? { bootstrapScript } : {}),
    ...(preopenPorts.length > 0 ? { preopenPorts } : {}),
    ...(shmem === null ? {} : { shmem: String(shmem) }),
  };
}

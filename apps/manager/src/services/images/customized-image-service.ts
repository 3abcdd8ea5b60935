import type {
  CallContext,
  CommitStarted,
  CommittedImage,
  ImageRef,
  KernelCommit,
  KernelCommitState,
  PurgeReport,
  SessionCommitState,
} from '@backend.ai/contract';
import {
  AppError,
  type Clock,
  customizedImageLabels,
  customizedImageName,
  delay,
  findCustomizedImage,
  newId,
  servingStatuses,
} from '@backend.ai/core';
import type { AgentClients } from '../../clients/agent-clients.ts';
import type { CustomizedImageOwner, CustomizedImageRepository } from '../../repositories/customized-images.ts';
import type { SessionRecord } from '../../repositories/session-rows.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { notRunning } from '../sessions/not-running.ts';
import { actorOf, type SessionService } from '../sessions/session-service.ts';
import type { TaskProgress, TaskService } from '../tasks/task-service.ts';
import { offersImage } from './find-image.ts';
import type { ImageAdminService } from './image-admin-service.ts';
import type { ImageCatalog } from './image-catalog.ts';
import { type ImageService, viewerOf } from './image-service.ts';

export interface CustomizedImageOptions {
  readonly sessions: SessionService;
  readonly images: ImageService;
  readonly imageAdmin: ImageAdminService;
  readonly catalog: ImageCatalog;
  readonly owners: CustomizedImageRepository;
  readonly agents: AgentDirectory;
  readonly clients: AgentClients;
  readonly tasks: TaskService;
  readonly audit: AuditLog;
  readonly clock: Clock;
}

/** How often the agent is asked how far it is. */
const askMs = 500;
/** An agent tells of a new image with its next heartbeat, once it has looked at it. */
const offeredWithinMs = 30_000;
/** An agent that cannot be asked for so long may have lost what it was doing. */
const silentMs = 60_000;

/** One commit that was allowed. */
interface Commit {
  readonly kernelId: string;
  readonly agentId: string;
  readonly image: string;
  readonly name: string;
  readonly architecture: string;
  readonly owner: CustomizedImageOwner;
}

/** Images that users make of their sessions. One belongs to the owner of its session, whoever made it. */
export class CustomizedImageService {
  readonly #options: CustomizedImageOptions;

  constructor(options: CustomizedImageOptions) {
    this.#options = options;
  }

  async commit({ session, image }: { session: string; image: string }, ctx: CallContext): Promise<CommitStarted> {
    const { sessions, tasks } = this.#options;
    const actor = actorOf(ctx);
    const request = { session, action: 'session:commit', changes: { image } } as const;
    return await sessions.recorded(request, actor, async (record) => {
      const commit = await this.#allowed(record, image);
      const taskId = await tasks.start({
        kind: 'commit',
        owner: { userId: actor.userId, domain: actor.domain },
        // Of one owner one after the other: otherwise two could share the last place that the policy leaves.
        exclusive: `commit ${record.userId}`,
        refusal: () => new AppError('state-conflict', 'Another image of this user is being made.'),
        run: (tell, signal) => this.#run(commit, tell, signal),
      });
      return { taskId, image: commit.image };
    });
  }

  /** @throws AppError `session-not-running` */
  async state(session: string, ctx: CallContext): Promise<SessionCommitState> {
    const { sessions, clients } = this.#options;
    const { kernelId, agentId } = mainKernel(await sessions.find(session, actorOf(ctx)));
    const { state } = await clients.call(agentId, (api) => api.checkCommit.query({ kernelId }));
    return { state: state === 'committing' ? 'ongoing' : 'ready', kernelId };
  }

  async delete({ image, architecture }: ImageRef, ctx: CallContext): Promise<PurgeReport> {
    const { audit, images, imageAdmin } = this.#options;
    const actor = actorOf(ctx);
    const target = { kind: 'image', id: image, domain: null };
    return await audit.around({ actor, action: 'image:delete', target, changes: { image, architecture } }, async () => {
      const found = await images.find(image, architecture, viewerOf(actor));
      const { name, architecture: of } = found.image;
      if (!findCustomizedImage(name)) {
        throw new AppError('forbidden', `${name} is no customized image.`, {
          hint: 'Others are removed by superadmins: ./backend.ai image purge IMAGE',
        });
      }
      return await imageAdmin.purge({ image: name, architecture: of, forced: false, removeFromRegistry: false });
    });
  }

  /** @throws AppError as `SessionApi.commit` does */
  async #allowed(record: SessionRecord, name: string): Promise<Commit> {
    const { owners, agents, images } = this.#options;
    const kernel = mainKernel(record);
    const agent = await agents.find(kernel.agentId);
    if (agent?.backend !== 'docker') {
      throw new AppError('unsupported-feature', 'Images can be made of sessions in containers only.', {
        hint: 'This session runs as processes of its agent: keep what it needs in files, or ask for an agent with Docker.',
      });
    }
    const image = customizedImageName(record.userId, name);
    const owner = await owners.find(record.userId);
    const commit = { ...kernel, image, name, architecture: record.architecture, owner };
    const taken = await images.findKnown(name, record.architecture, { userId: owner.userId, all: false });
    if (taken) {
      throw new AppError('object-exists', `There is an image "${name}" already: ${taken.image.name}.`, {
        hint: 'Choose another name or tag, or delete yours first: ./backend.ai image delete NAME',
      });
    }
    await this.#checkRoom(owner);
    return commit;
  }

  /** @throws AppError `quota-exceeded` */
  async #checkRoom({ userId, maxCustomizedImages: limit }: CustomizedImageOwner): Promise<void> {
    if (limit === 0) return;
    const count = (await this.#options.images.customizedBy(userId)).length;
    if (count < limit) return;
    throw new AppError('quota-exceeded', `There are ${count} images made of sessions of this user; ${limit} may be.`, {
      hint: 'Delete one: ./backend.ai image delete NAME',
      data: { scope: 'user', limit: 'max_customized_image_count' },
    });
  }

  async #run(commit: Commit, tell: (progress: TaskProgress) => void, signal: AbortSignal): Promise<CommittedImage> {
    const { clients, owners } = this.#options;
    const { image, name, kernelId, agentId, architecture } = commit;
    // What was made since the request was looked at counts, too.
    const owner = await owners.find(commit.owner.userId);
    await this.#checkRoom(owner);
    const order: KernelCommit = { image, labels: customizedImageLabels(owner, { id: newId(), name }) };
    tell({ current: 0, total: 0, message: image });
    await clients.call(agentId, (api) => api.commitKernel.mutate({ ...order, kernelId }));
    await this.#followed(commit, signal);
    await this.#offered(commit, signal);
    return { image, architecture, agent: agentId };
  }

  /** Until the agent has made it. */
  async #followed({ kernelId, agentId, image }: Commit, signal: AbortSignal): Promise<void> {
    const { clients, clock } = this.#options;
    let heardAt = clock.monotonic();
    while (!signal.aborted) {
      let now: KernelCommitState | undefined;
      try {
        now = await clients.call(agentId, (api) => api.checkCommit.query({ kernelId }));
        heardAt = clock.monotonic();
      } catch (error) {
        // It goes on without us; what became of it is asked for again.
        if (clock.monotonic() - heardAt >= silentMs) throw error;
      }
      if (now?.failure) throw AppError.fromBody(now.failure);
      if (now?.state === 'done') return;
      if (now && (now.state !== 'committing' || now.image !== image)) {
        throw new AppError('image-commit-failed', 'The agent was restarted while it made the image.');
      }
      await delay(clock, askMs, signal);
    }
    throw followedNoMore();
  }

  /** Until sessions can be made of it. @throws AppError `image-commit-failed`: they cannot, for long */
  async #offered({ agentId, image: name, architecture }: Commit, signal: AbortSignal): Promise<void> {
    const { agents, catalog, clock } = this.#options;
    const end = clock.monotonic() + offeredWithinMs;
    while (!signal.aborted && clock.monotonic() < end) {
      const agent = (await agents.reload()).byId.get(agentId);
      if (agent && offersImage(agent, { name, architecture })) return void catalog.announce();
      await delay(clock, askMs, signal);
    }
    if (signal.aborted) throw followedNoMore();
    throw new AppError('image-commit-failed', `Agent ${agentId} has made ${name}, and does not offer it.`, {
      hint: 'Its log tells what it thinks of the image; agents that cannot be reached may offer it later.',
      data: { image: name, agent: agentId },
    });
  }
}

function followedNoMore(): AppError {
  return new AppError('shutting-down', 'The manager that followed it has ended; the image will be there all the same.');
}

/** @throws AppError `session-not-running` */
function mainKernel(record: SessionRecord): { kernelId: string; agentId: string } {
  const main = record.kernels.find(({ clusterRole }) => clusterRole === 'main');
  if (!servingStatuses.includes(record.status) || !main?.agentId) throw notRunning(record);
  return { kernelId: main.id, agentId: main.agentId };
}

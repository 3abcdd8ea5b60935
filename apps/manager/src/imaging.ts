import type { EventBus, LiveValues } from '@backend.ai/coordination';
import type { Clock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import type { BackgroundTasks } from '@backend.ai/telemetry';
import type { AgentClients } from './clients/agent-clients.ts';
import { RegistryHttp } from './clients/registry/registry-http.ts';
import type { ManagerConfig } from './config.ts';
import type { ManagerEvents } from './events.ts';
import { ContainerRegistryRepository } from './repositories/container-registries.ts';
import { ImageRepository } from './repositories/images.ts';
import type { AgentDirectory } from './services/agents/agent-directory.ts';
import { ImageAdminService } from './services/images/image-admin-service.ts';
import { ImageCatalog } from './services/images/image-catalog.ts';
import { ImageService } from './services/images/image-service.ts';
import { RegistryService } from './services/images/registry-service.ts';
import type { SecretBox } from './services/installation-keys/secret-box.ts';
import { TaskService } from './services/tasks/task-service.ts';

export interface ImagingOptions {
  readonly config: ManagerConfig;
  readonly db: Database;
  readonly eventBus: EventBus<ManagerEvents>;
  readonly liveValues: LiveValues;
  readonly directory: AgentDirectory;
  readonly clients: AgentClients;
  readonly box: SecretBox;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
}

/** What knows images: of agents, of registries, and what is done to them in the background. */
export interface Imaging {
  readonly catalog: ImageCatalog;
  readonly images: ImageService;
  readonly imageAdmin: ImageAdminService;
  readonly registries: RegistryService;
  readonly registryHttp: RegistryHttp;
  readonly taskService: TaskService;
}

export function createImaging(options: ImagingOptions): Imaging {
  const { config, db, eventBus, liveValues, directory, clients, box, tasks, clock } = options;
  const rows = new ImageRepository(db);
  const registryRows = new ContainerRegistryRepository(db);
  const catalog = new ImageCatalog(rows, eventBus, tasks, clock);
  const images = new ImageService(directory, catalog);
  const taskService = new TaskService({ liveValues, tasks, clock });
  const registryHttp = new RegistryHttp({ clock, timeoutMs: config.registryTimeoutMs });
  const registries = new RegistryService({
    ...{ registries: registryRows, images: rows, catalog, tasks: taskService, http: registryHttp, box },
  });
  const imageAdmin = new ImageAdminService({
    ...{ images, rows, registryRows, catalog, registries, agents: directory, clients, clock },
    tasks: taskService,
    pullPolicy: config.imagePullPolicy,
  });
  return { catalog, images, imageAdmin, registries, registryHttp, taskService };
}

import type { ApiServices } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { createAdminApi } from './api/admin.ts';
import { createAuthApi } from './api/auth.ts';
import { createClusterApi } from './api/cluster.ts';
import { createSessionApi } from './api/session.ts';
import { createUsageApi } from './api/usage.ts';
import type { AgentClients } from './clients/agent-clients.ts';
import type { Imaging } from './imaging.ts';
import type { Monitoring } from './monitoring.ts';
import type { AgentRepository } from './repositories/agents.ts';
import { CustomizedImageRepository } from './repositories/customized-images.ts';
import { DomainRepository } from './repositories/domains.ts';
import { DotfileRepository } from './repositories/dotfiles.ts';
import { ProjectRepository } from './repositories/projects.ts';
import type { QuotaRepository } from './repositories/quotas.ts';
import type { ResourceGroupRepository } from './repositories/resource-groups.ts';
import type { ResourcePresetRepository } from './repositories/resource-presets.ts';
import { SessionTemplateRepository } from './repositories/session-templates.ts';
import type { UsageRepository } from './repositories/usage.ts';
import type { AgentDirectory } from './services/agents/agent-directory.ts';
import type { AuditLog } from './services/audit/audit-log.ts';
import type { ClusterService } from './services/cluster/cluster-service.ts';
import { DotfileService } from './services/dotfiles/dotfile-service.ts';
import type { ExplainService } from './services/explain/explain-service.ts';
import { CustomizedImageService } from './services/images/customized-image-service.ts';
import type { SecretBox } from './services/installation-keys/secret-box.ts';
import type { KernelService } from './services/kernels/kernel-service.ts';
import type { LogFollower } from './services/kernels/log-follower.ts';
import type { PausingService } from './services/kernels/pausing-service.ts';
import type { KeypairService } from './services/keypairs/keypair-service.ts';
import { ResourceGroupService } from './services/resource-groups/resource-group-service.ts';
import { ResourcePresetService } from './services/resource-presets/resource-preset-service.ts';
import { SessionTemplateService } from './services/session-templates/session-template-service.ts';
import type { SessionCreation } from './services/sessions/session-creation.ts';
import type { SessionService } from './services/sessions/session-service.ts';
import { UsageService } from './services/usage/usage-service.ts';
import type { WarmPoolService } from './services/warm-pools/warm-pool-service.ts';

export interface PublicApiOptions {
  readonly db: Database;
  readonly rows: {
    readonly agents: AgentRepository;
    readonly groups: ResourceGroupRepository;
    readonly presets: ResourcePresetRepository;
    readonly quotas: QuotaRepository;
    readonly usage: UsageRepository;
  };
  readonly imaging: Imaging;
  readonly monitoring: Monitoring;
  readonly creation: SessionCreation;
  readonly sessions: SessionService;
  readonly kernels: KernelService;
  readonly logFollower: LogFollower;
  readonly pausing: PausingService;
  readonly explanations: ExplainService;
  readonly warmPools: WarmPoolService;
  readonly cluster: ClusterService;
  readonly keypairs: KeypairService;
  readonly directory: AgentDirectory;
  readonly clients: AgentClients;
  readonly box: SecretBox;
  readonly audit: AuditLog;
  readonly clock: Clock;
  /** Called after each change of a tenant. */
  readonly onTenantsChanged: () => void;
  /** Called after each change of what the scheduler goes by. */
  readonly onRulesChanged: () => void;
}

/** What users and administrators reach, with the services that nobody else needs. */
export function createPublicApi(options: PublicApiOptions): ApiServices {
  const { db, rows, sessions, kernels, pausing, warmPools, directory, clients, box, audit, clock } = options;
  const { catalog, images, imageAdmin, registries, taskService } = options.imaging;
  const { kernelStatistics, machineStatistics, inspections } = options.monitoring;
  const groups = new ResourceGroupService(rows.groups, options.onRulesChanged);
  const customized = new CustomizedImageService({
    ...{ sessions, images, imageAdmin, catalog, clients, audit, clock },
    owners: new CustomizedImageRepository(db),
    agents: directory,
    tasks: taskService,
  });
  const presets = new ResourcePresetService(rows);
  return {
    auth: createAuthApi(options.keypairs),
    cluster: createClusterApi(options.cluster),
    image: {
      list: (ctx) => images.list(ctx),
      get: (input, ctx) => images.get(input, ctx),
      delete: (input, ctx) => customized.delete(input, ctx),
    },
    task: taskService,
    session: createSessionApi(options.creation, sessions, kernels, options.logFollower, customized, pausing, {
      ...{ inspections, explanations: options.explanations },
    }),
    dotfile: new DotfileService({
      dotfiles: new DotfileRepository(db),
      projects: new ProjectRepository(db),
      domains: new DomainRepository(db),
      audit,
    }),
    sessionTemplate: new SessionTemplateService(new SessionTemplateRepository(db), audit),
    usage: createUsageApi(new UsageService(rows.usage, kernelStatistics, clock)),
    resourceGroup: { list: (input, ctx) => groups.usable(input, ctx) },
    resourcePreset: presets,
    admin: createAdminApi({
      ...{ db, box, audit, clock, directory, sessions, machineStatistics },
      ...{ groups, presets, imageAdmin, registries, warmPools },
      onTenantsChanged: options.onTenantsChanged,
      onRulesChanged: options.onRulesChanged,
    }),
  };
}

import type { ApiServices, WarmPoolApi } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type {
  Database,
  KeypairResourcePolicyRow,
  ProjectResourcePolicyRow,
  UserResourcePolicyRow,
} from '@backend.ai/database';
import { AgentAdministrationRepository } from '../repositories/agent-administration.ts';
import { ResourcePolicyRepository } from '../repositories/resource-policies.ts';
import { AgentAdminService } from '../services/agents/agent-admin-service.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import type { AuditLog } from '../services/audit/audit-log.ts';
import type { ImageAdminService } from '../services/images/image-admin-service.ts';
import type { RegistryService } from '../services/images/registry-service.ts';
import type { SecretBox } from '../services/installation-keys/secret-box.ts';
import type { ResourceGroupService } from '../services/resource-groups/resource-group-service.ts';
import { ResourcePolicyService } from '../services/resource-policies/resource-policy-service.ts';
import type { ResourcePresetService } from '../services/resource-presets/resource-preset-service.ts';
import type { SessionService } from '../services/sessions/session-service.ts';
import type { MachineStatistics } from '../services/statistics/machine-statistics.ts';
import { createTenancy } from '../services/tenancy/create-tenancy.ts';
import { audited } from './audited.ts';

export interface AdminApiOptions {
  readonly db: Database;
  readonly box: SecretBox;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly directory: AgentDirectory;
  readonly sessions: SessionService;
  readonly machineStatistics: MachineStatistics;
  readonly groups: ResourceGroupService;
  readonly presets: ResourcePresetService;
  readonly imageAdmin: ImageAdminService;
  readonly registries: RegistryService;
  readonly warmPools: WarmPoolApi;
  /** Called after each change of a tenant. */
  readonly onTenantsChanged: () => void;
  /** Called after each change of a limit. */
  readonly onRulesChanged: () => void;
}

/** What administrators do, each change with its row in the audit log. */
export function createAdminApi(options: AdminApiOptions): ApiServices['admin'] {
  const { db, audit, groups, presets, imageAdmin, registries, warmPools, onRulesChanged: announce } = options;
  const auditedPolicies = <Api extends object>(kind: string, policies: Api): Api =>
    audited(audit, `${kind}-resource-policy`, 'resource-policy:modify', policies);
  const keypairPolicies = new ResourcePolicyRepository<KeypairResourcePolicyRow>(db, 'keypair');
  const userPolicies = new ResourcePolicyRepository<UserResourcePolicyRow>(db, 'user');
  const projectPolicies = new ResourcePolicyRepository<ProjectResourcePolicyRow>(db, 'project');
  const { directory, sessions, machineStatistics } = options;
  const agentRows = new AgentAdministrationRepository(db);
  const agents = new AgentAdminService(agentRows, directory, sessions, machineStatistics);
  return {
    ...createTenancy(db, options.box, audit, options.clock, options.onTenantsChanged),
    resourcePolicy: {
      keypair: auditedPolicies('keypair', new ResourcePolicyService(keypairPolicies, 'keypair', announce)),
      user: auditedPolicies('user', new ResourcePolicyService(userPolicies, 'user', announce)),
      project: auditedPolicies('project', new ResourcePolicyService(projectPolicies, 'project', announce)),
    },
    resourceGroup: audited(audit, 'resource-group', 'resource-group:modify', groups.admin),
    resourcePreset: audited(audit, 'resource-preset', 'resource-preset:modify', presets.admin),
    agent: audited(audit, 'agent', 'agent:modify', agents),
    image: audited(audit, 'image', 'image:modify', imageAdmin),
    registry: audited(audit, 'registry', 'registry:modify', registries),
    warmPool: audited(audit, 'warm-pool', 'warm-pool:modify', warmPools),
  };
}

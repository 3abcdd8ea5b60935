import type { AdminServices } from '@backend.ai/contract';
import type { Clock } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { AuditRepository } from '../../repositories/audit.ts';
import { DomainRepository } from '../../repositories/domains.ts';
import { KeypairAdministration } from '../../repositories/keypair-administration.ts';
import { ProjectRepository } from '../../repositories/projects.ts';
import { UserRepository } from '../../repositories/users.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { AuditService } from '../audit/audit-service.ts';
import type { SecretBox } from '../installation-keys/secret-box.ts';
import { DomainService } from './domain-service.ts';
import { KeypairAdminService } from './keypair-admin-service.ts';
import { PasswordAttempts } from './password-attempts.ts';
import { ProjectService } from './project-service.ts';
import { TenantChanges } from './tenant-changes.ts';
import { UserService } from './user-service.ts';

/** What administrators do with tenants. `announce` is called after each change. */
export function createTenancy(
  db: Database,
  box: SecretBox,
  audit: AuditLog,
  clock: Clock,
  announce: () => void,
): Pick<AdminServices, 'domain' | 'project' | 'user' | 'keypair' | 'audit'> {
  const [domains, projects, users] = [new DomainRepository(db), new ProjectRepository(db), new UserRepository(db)];
  const keypairs = new KeypairAdministration(db);
  const changes = new TenantChanges(audit, announce);
  const passwordAttempts = new PasswordAttempts(clock);
  const keypairService = new KeypairAdminService(keypairs, users, box, changes);
  return {
    domain: new DomainService(domains, changes),
    project: new ProjectService(projects, users, changes),
    user: new UserService({ users, domains, projects, keypairs, keypairService, changes, passwordAttempts }),
    keypair: keypairService,
    audit: new AuditService(new AuditRepository(db)),
  };
}

import type {
  ApiRouter,
  AuditView,
  DomainView,
  KeypairView,
  NewKeypair,
  Page,
  ProjectView,
  UserView,
} from '@backend.ai/contract';
import type { inferRouterInputs } from '@trpc/server';
import type { Rpc } from './rpc.ts';

type Inputs = inferRouterInputs<ApiRouter>['admin'];

/** Tenants, within the rights of the key pair. Lists come in pages: `limit`, `offset`, and the `total` in the answer. */
export interface TenantAdminClient {
  readonly domains: {
    list(options?: Inputs['domain']['list']): Promise<Page<DomainView>>;
    get(name: string): Promise<DomainView>;
    create(input: Inputs['domain']['create']): Promise<DomainView>;
    modify(input: Inputs['domain']['modify']): Promise<DomainView>;
    /** Makes it inactive. @throws AppError `has-sessions` */
    delete(name: string): Promise<void>;
    /** @throws AppError `has-sessions`, `has-dependents` */
    purge(name: string): Promise<void>;
  };
  readonly projects: {
    list(options?: Inputs['project']['list']): Promise<Page<ProjectView>>;
    get(ref: Inputs['project']['get']): Promise<ProjectView>;
    create(input: Inputs['project']['create']): Promise<ProjectView>;
    modify(input: Inputs['project']['modify']): Promise<ProjectView>;
    delete(ref: Inputs['project']['delete']): Promise<void>;
    purge(ref: Inputs['project']['purge']): Promise<void>;
    addMembers(input: Inputs['project']['addMembers']): Promise<ProjectView>;
    removeMembers(input: Inputs['project']['removeMembers']): Promise<ProjectView>;
  };
  readonly users: {
    list(options?: Inputs['user']['list']): Promise<Page<UserView>>;
    /** By id or e-mail address, as all users here. */
    get(user: string): Promise<UserView>;
    create(input: Inputs['user']['create']): Promise<{ user: UserView } & NewKeypair>;
    modify(input: Inputs['user']['modify']): Promise<UserView>;
    changePassword(input: Inputs['user']['changePassword']): Promise<void>;
    delete(user: string): Promise<void>;
    purge(user: string): Promise<void>;
  };
  readonly keypairs: {
    list(options?: Inputs['keypair']['list']): Promise<Page<KeypairView>>;
    get(accessKey: string): Promise<KeypairView>;
    create(input: Inputs['keypair']['create']): Promise<NewKeypair>;
    modify(input: Inputs['keypair']['modify']): Promise<KeypairView>;
    delete(accessKey: string): Promise<void>;
  };
  readonly audit: {
    list(options?: Inputs['audit']['list']): Promise<Page<AuditView>>;
  };
}

export function createTenantAdmin({ admin }: Rpc): TenantAdminClient {
  const { domain, project, user, keypair, audit } = admin;
  return {
    domains: {
      list: (input = {}) => domain.list.query(input),
      get: (name) => domain.get.query({ name }),
      create: (input) => domain.create.mutate(input),
      modify: (input) => domain.modify.mutate(input),
      delete: (name) => domain.delete.mutate({ name }),
      purge: (name) => domain.purge.mutate({ name }),
    },
    projects: {
      list: (input = {}) => project.list.query(input),
      get: (ref) => project.get.query(ref),
      create: (input) => project.create.mutate(input),
      modify: (input) => project.modify.mutate(input),
      delete: (ref) => project.delete.mutate(ref),
      purge: (ref) => project.purge.mutate(ref),
      addMembers: (input) => project.addMembers.mutate(input),
      removeMembers: (input) => project.removeMembers.mutate(input),
    },
    users: {
      list: (input = {}) => user.list.query(input),
      get: (ref) => user.get.query({ user: ref }),
      create: (input) => user.create.mutate(input),
      modify: (input) => user.modify.mutate(input),
      changePassword: (input) => user.changePassword.mutate(input),
      delete: (ref) => user.delete.mutate({ user: ref }),
      purge: (ref) => user.purge.mutate({ user: ref }),
    },
    keypairs: {
      list: (input = {}) => keypair.list.query(input),
      get: (accessKey) => keypair.get.query({ accessKey }),
      create: (input) => keypair.create.mutate(input),
      modify: (input) => keypair.modify.mutate(input),
      delete: (accessKey) => keypair.delete.mutate({ accessKey }),
    },
    audit: { list: (input = {}) => audit.list.query(input) },
  };
}

import type { ApiRouter } from '@backend.ai/contract';
import type { inferRouterInputs, inferRouterOutputs } from '@trpc/server';
import type { Rpc } from './rpc.ts';

/** What administrators do, noun by noun. Rights are the server's to judge. */

type Inputs = inferRouterInputs<ApiRouter>['admin'];
type Outputs = inferRouterOutputs<ApiRouter>['admin'];
type PolicyKind = keyof Inputs['resourcePolicy'];

export interface PolicyClient<Kind extends PolicyKind> {
  list(): Promise<Outputs['resourcePolicy'][Kind]['list']>;
  get(name: string): Promise<Outputs['resourcePolicy'][Kind]['get']>;
  create(input: Inputs['resourcePolicy'][Kind]['create']): Promise<Outputs['resourcePolicy'][Kind]['create']>;
  /** What is absent stays as it is. */
  modify(input: Inputs['resourcePolicy'][Kind]['modify']): Promise<Outputs['resourcePolicy'][Kind]['modify']>;
  /** @throws AppError `state-conflict` while it is used */
  delete(name: string): Promise<void>;
}

export interface ResourceAdminClient {
  readonly resourcePolicies: { readonly [Kind in PolicyKind]: PolicyClient<Kind> };
  readonly resourceGroups: {
    list(): Promise<Outputs['resourceGroup']['list']>;
    get(name: string): Promise<Outputs['resourceGroup']['get']>;
    create(input: Inputs['resourceGroup']['create']): Promise<Outputs['resourceGroup']['create']>;
    modify(input: Inputs['resourceGroup']['modify']): Promise<Outputs['resourceGroup']['modify']>;
    delete(name: string): Promise<void>;
    allow(name: string, to: Inputs['resourceGroup']['allow']['to']): Promise<Outputs['resourceGroup']['allow']>;
    disallow(name: string, to: Inputs['resourceGroup']['allow']['to']): Promise<Outputs['resourceGroup']['allow']>;
  };
  readonly resourcePresets: {
    /** Of all groups. */
    list(): Promise<Outputs['resourcePreset']['list']>;
    create(input: Inputs['resourcePreset']['create']): Promise<Outputs['resourcePreset']['create']>;
    modify(input: Inputs['resourcePreset']['modify']): Promise<Outputs['resourcePreset']['modify']>;
    delete(id: string): Promise<void>;
  };
  readonly images: {
    /** Begins, and tells which tasks to watch. */
    rescan(registry?: string): Promise<Outputs['image']['rescan']>;
    alias(input: Inputs['image']['alias']): Promise<Outputs['image']['alias']>;
    dealias(input: Inputs['image']['dealias']): Promise<void>;
    /** It is offered no more, until a rescan finds it again. */
    forget(input: Inputs['image']['forget']): Promise<Outputs['image']['forget']>;
    /** Forgets it and removes it from agents. */
    purge(input: Inputs['image']['purge']): Promise<Outputs['image']['purge']>;
    /** Lets agents fetch it beforehand; tells which task to watch. */
    preload(input: Inputs['image']['preload']): Promise<Outputs['image']['preload']>;
  };
  readonly registries: {
    list(): Promise<Outputs['registry']['list']>;
    get(name: string): Promise<Outputs['registry']['get']>;
    create(input: Inputs['registry']['create']): Promise<Outputs['registry']['create']>;
    /** What is absent stays as it is. */
    modify(input: Inputs['registry']['modify']): Promise<Outputs['registry']['modify']>;
    /** Its images go with it. */
    delete(name: string): Promise<void>;
  };
  readonly warmPools: {
    list(): Promise<Outputs['warmPool']['list']>;
    create(input: Inputs['warmPool']['create']): Promise<Outputs['warmPool']['create']>;
    modify(input: Inputs['warmPool']['modify']): Promise<Outputs['warmPool']['modify']>;
    /** Its slots go with it, sessions that took one stay. */
    delete(name: string): Promise<void>;
  };
  readonly agents: {
    list(filter?: Inputs['agent']['list']): Promise<Outputs['agent']['list']>;
    get(id: string): Promise<Outputs['agent']['get']>;
    /** Keeps it from new sessions, or moves it to another group. */
    modify(input: Inputs['agent']['modify']): Promise<Outputs['agent']['modify']>;
  };
}

export function createResourceAdmin({ admin }: Rpc): ResourceAdminClient {
  const { keypair, user, project } = admin.resourcePolicy;
  const { resourceGroup, resourcePreset, agent, image, registry, warmPool } = admin;
  return {
    resourcePolicies: {
      keypair: {
        list: () => keypair.list.query(),
        get: (name) => keypair.get.query({ name }),
        create: (input) => keypair.create.mutate(input),
        modify: (input) => keypair.modify.mutate(input),
        delete: (name) => keypair.delete.mutate({ name }),
      },
      user: {
        list: () => user.list.query(),
        get: (name) => user.get.query({ name }),
        create: (input) => user.create.mutate(input),
        modify: (input) => user.modify.mutate(input),
        delete: (name) => user.delete.mutate({ name }),
      },
      project: {
        list: () => project.list.query(),
        get: (name) => project.get.query({ name }),
        create: (input) => project.create.mutate(input),
        modify: (input) => project.modify.mutate(input),
        delete: (name) => project.delete.mutate({ name }),
      },
    },
    resourceGroups: {
      list: () => resourceGroup.list.query(),
      get: (name) => resourceGroup.get.query({ name }),
      create: (input) => resourceGroup.create.mutate(input),
      modify: (input) => resourceGroup.modify.mutate(input),
      delete: (name) => resourceGroup.delete.mutate({ name }),
      allow: (name, to) => resourceGroup.allow.mutate({ name, to }),
      disallow: (name, to) => resourceGroup.disallow.mutate({ name, to }),
    },
    resourcePresets: {
      list: () => resourcePreset.list.query(),
      create: (input) => resourcePreset.create.mutate(input),
      modify: (input) => resourcePreset.modify.mutate(input),
      delete: (id) => resourcePreset.delete.mutate({ id }),
    },
    images: {
      rescan: (name) => image.rescan.mutate(name === undefined ? {} : { registry: name }),
      alias: (input) => image.alias.mutate(input),
      dealias: (input) => image.dealias.mutate(input),
      forget: (input) => image.forget.mutate(input),
      purge: (input) => image.purge.mutate(input),
      preload: (input) => image.preload.mutate(input),
    },
    registries: {
      list: () => registry.list.query(),
      get: (name) => registry.get.query({ name }),
      create: (input) => registry.create.mutate(input),
      modify: (input) => registry.modify.mutate(input),
      delete: (name) => registry.delete.mutate({ name }),
    },
    warmPools: {
      list: () => warmPool.list.query(),
      create: (input) => warmPool.create.mutate(input),
      modify: (input) => warmPool.modify.mutate(input),
      delete: (name) => warmPool.delete.mutate({ name }),
    },
    agents: {
      list: (filter = {}) => agent.list.query(filter),
      get: (id) => agent.get.query({ id }),
      modify: (input) => agent.modify.mutate(input),
    },
  };
}

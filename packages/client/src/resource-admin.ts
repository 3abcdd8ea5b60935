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
  readonly agents: {
    list(filter?: Inputs['agent']['list']): Promise<Outputs['agent']['list']>;
    get(id: string): Promise<Outputs['agent']['get']>;
    /** Keeps it from new sessions, or moves it to another group. */
    modify(input: Inputs['agent']['modify']): Promise<Outputs['agent']['modify']>;
  };
}

export function createResourceAdmin({ admin }: Rpc): ResourceAdminClient {
  const { keypair, user, project } = admin.resourcePolicy;
  const { resourceGroup, resourcePreset, agent } = admin;
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
    agents: {
      list: (filter = {}) => agent.list.query(filter),
      get: (id) => agent.get.query({ id }),
      modify: (input) => agent.modify.mutate(input),
    },
  };
}

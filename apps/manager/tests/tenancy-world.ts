import {
  type CallContext,
  createApiRouter,
  createCallerFactory,
  toAppError,
  type UserActor,
} from '@backend.ai/contract';
import { newId, type RequestId, signRequest, type UserRole } from '@backend.ai/core';
import { runWithRequest } from '@backend.ai/telemetry';
import type { World } from './world.ts';

const makeCaller = ({ api }: World['manager']['services']) => createCallerFactory(createApiRouter(api));
export type ApiCaller = ReturnType<ReturnType<typeof makeCaller>>;

/** A router costs 20 ms, and tests ask as many actors. */
const callers = new WeakMap<World['manager']['services'], ReturnType<typeof makeCaller>>();

function callerOf({ services }: World['manager']): ReturnType<typeof makeCaller> {
  const caller = callers.get(services) ?? makeCaller(services);
  callers.set(services, caller);
  return caller;
}

export interface Member {
  readonly actor: UserActor;
  readonly secretKey: string;
}

/** Two domains with an administrator and users each, made through the API, and a superadmin above. */
export interface Tenants {
  readonly superadmin: UserActor;
  readonly ownAdmin: UserActor;
  readonly foreignAdmin: UserActor;
  readonly user: UserActor;
  readonly neighbour: UserActor;
}

/** The API as this actor meets it, router included; what it refuses arrives as an AppError. */
export function apiOf(
  world: Pick<World, 'manager'>,
  actor: CallContext['actor'],
  id: string = newId(),
): <T>(work: (api: ApiCaller) => Promise<T>) => Promise<T> {
  const requestId = id as RequestId;
  const api = callerOf(world.manager)({ requestId, actor, headers: {}, signal: undefined });
  return (work) =>
    runWithRequest({ requestId }, () =>
      work(api).catch((error: unknown) => {
        throw toAppError(error);
      }),
    );
}

/** Of a request that this member signs. */
export function signedHeaders(
  { actor, secretKey }: Member,
  method: string,
  { host, pathname, search }: URL,
  contentType = 'application/json',
): Record<string, string> {
  const [date, version] = [new Date().toISOString(), 'v7.20230615'];
  const day = date.slice(0, 10).replaceAll('-', '');
  const signed = { method, target: pathname + search, date, day, host, contentType, version };
  return {
    authorization: `BackendAI signMethod=HMAC-SHA256, credential=${actor.accessKey}:${signRequest(secretKey, signed)}`,
    'content-type': contentType,
    'x-backendai-version': version,
    'x-backendai-date': date,
  };
}

let count = 0;

export async function addMember(world: World, domain: string, role: UserRole = 'user'): Promise<Member> {
  count += 1;
  const input = { email: `m${count}@${domain}.test`, domain, role };
  const { keypair, secretKey } = await apiOf(world, world.admin)((api) => api.admin.user.create(input));
  const found = await world.manager.services.keypairs.find(keypair.accessKey);
  if (!found) throw new Error('the new key pair does not work');
  return { actor: found.actor, secretKey };
}

export async function createTenants(world: World): Promise<Tenants> {
  const superadmin = apiOf(world, world.admin);
  for (const name of ['ours', 'theirs']) await superadmin((api) => api.admin.domain.create({ name }));
  const add = async (domain: string, role?: UserRole) => (await addMember(world, domain, role)).actor;
  return {
    superadmin: world.admin,
    ownAdmin: await add('ours', 'admin'),
    foreignAdmin: await add('theirs', 'admin'),
    user: await add('ours'),
    neighbour: await add('ours'),
  };
}

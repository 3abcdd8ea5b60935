import { AsyncLocalStorage } from 'node:async_hooks';
import { newRequestId, type RequestId } from '@backend.ai/core';

/** What is known about the request that the current code works for. Follows every await. */
export interface RequestContext {
  readonly requestId: RequestId;
  /** Access key or peer name of the caller, once authenticated. */
  readonly actor?: string | undefined;
}

const storage = new AsyncLocalStorage<RequestContext>();

export function currentRequest(): RequestContext | undefined {
  return storage.getStore();
}

export function currentRequestId(): RequestId | undefined {
  return storage.getStore()?.requestId;
}

/** The id to put on everything that leaves this process. Code outside any request is a defect: it gets a fresh id. */
export function requireRequestId(): RequestId {
  return storage.getStore()?.requestId ?? newRequestId();
}

export function runWithRequest<T>(context: RequestContext, work: () => T): T {
  return storage.run(context, work);
}

/** Binds `requestId` (the cause, for example from an event), or keeps the present one, or makes a new one. */
export function ensureRequestId<T>(work: () => T, requestId?: RequestId): T {
  const present = storage.getStore();
  if (present && (requestId === undefined || present.requestId === requestId)) return work();
  return storage.run({ requestId: requestId ?? newRequestId() }, work);
}

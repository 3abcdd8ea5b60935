import type { ApiRouter, SessionTemplateView } from '@backend.ai/contract';
import type { inferRouterInputs } from '@trpc/server';
import type { Rpc } from './rpc.ts';

/** Descriptions that sessions are made of: one's own. By id or name. See `sessions.createFromTemplate`. */
export interface SessionTemplateClient {
  list(): Promise<SessionTemplateView[]>;
  /** @throws AppError `object-not-found` */
  get(template: string): Promise<SessionTemplateView>;
  /** From JSON or YAML: one template, or a list of them. */
  create(input: inferRouterInputs<ApiRouter>['sessionTemplate']['create']): Promise<SessionTemplateView[]>;
  modify(template: string, payload: string): Promise<SessionTemplateView>;
  delete(template: string): Promise<void>;
}

export function createSessionTemplateClient({ sessionTemplate }: Rpc): SessionTemplateClient {
  return {
    list: () => sessionTemplate.list.query(),
    get: (template) => sessionTemplate.get.query({ template }),
    create: (input) => sessionTemplate.create.mutate(input),
    modify: (template, payload) => sessionTemplate.modify.mutate({ template, payload }),
    delete: (template) => sessionTemplate.delete.mutate({ template }),
  };
}

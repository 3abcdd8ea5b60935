import { type PolicyApi, scopeOf } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import { defaultPolicy, sqlStateOf, sqlStates } from '@backend.ai/database';
import type { PolicyKind, ResourcePolicyRepository } from '../../repositories/resource-policies.ts';
import { actorOf } from '../sessions/session-service.ts';
import { limitTexts } from './limit-slots.ts';

interface Named {
  readonly name: string;
}
type Read<Row> = Omit<Row, 'createdAt'> & { readonly createdAt: string };

/** Policies of one kind. */
export class ResourcePolicyService<
  Row extends { name: string; createdAt: Date },
  Create extends Named,
  Modify extends Named,
> implements PolicyApi<Read<Row>, Create, Modify>
{
  readonly #policies: ResourcePolicyRepository<Row>;
  readonly #kind: PolicyKind;
  /** To be called when limits have changed. */
  readonly #onChange: () => void;

  constructor(policies: ResourcePolicyRepository<Row>, kind: PolicyKind, onChange: () => void) {
    this.#policies = policies;
    this.#kind = kind;
    this.#onChange = onChange;
  }

  list: PolicyApi<Read<Row>, Create, Modify>['list'] = (ctx) =>
    this.#policies.list(scopeOf(actorOf(ctx), 'resource-policy:read'));

  /** @throws AppError `object-not-found` */
  get: PolicyApi<Read<Row>, Create, Modify>['get'] = async ({ name }, ctx) => {
    const found = await this.#policies.find(name, scopeOf(actorOf(ctx), 'resource-policy:read'));
    return found ?? this.#absent(name);
  };

  /** @throws AppError `object-exists`, `invalid-input` */
  create: PolicyApi<Read<Row>, Create, Modify>['create'] = async (input) => {
    try {
      return await this.#policies.create({ ...storable<Row>(input), name: input.name });
    } catch (cause) {
      if (sqlStateOf(cause) !== sqlStates.uniqueViolation) throw cause;
      throw new AppError('object-exists', `There is a ${this.#kind} resource policy "${input.name}" already.`, {
        cause,
      });
    }
  };

  /** What is in use is held to the new limits from now on; nothing that runs is ended. @throws AppError `object-not-found` */
  modify: PolicyApi<Read<Row>, Create, Modify>['modify'] = async ({ name, ...input }) => {
    const modified = (await this.#policies.modify(name, storable<Row>(input))) ?? this.#absent(name);
    this.#onChange();
    return modified;
  };

  /** @throws AppError `object-not-found`, `state-conflict` for the default and for what is in use */
  delete: PolicyApi<Read<Row>, Create, Modify>['delete'] = async ({ name }) => {
    if (name === defaultPolicy) {
      throw new AppError('state-conflict', 'The default policy stays: it is what new rows get.', {
        hint: 'Modify it instead.',
      });
    }
    try {
      if (!(await this.#policies.delete(name))) this.#absent(name);
    } catch (cause) {
      if (sqlStateOf(cause) !== sqlStates.foreignKeyViolation) throw cause;
      throw new AppError('state-conflict', `The ${this.#kind} resource policy "${name}" is in use.`, {
        hint: `Give every ${this.#kind} that has it another one first.`,
        cause,
      });
    }
  };

  #absent(name: string): never {
    throw new AppError('object-not-found', `There is no ${this.#kind} resource policy "${name}".`);
  }
}

/** Fields as rows hold them; absent ones are left out. */
function storable<Row>(input: object): Partial<Row> {
  const entries = Object.entries(input).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([field, value]) => [field, field.endsWith('ResourceSlots') ? limitTexts(value) : value]),
  ) as Partial<Row>;
}

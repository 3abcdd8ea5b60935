import type { DotfileOwner, DotfileView, WriteDotfileInput } from '@backend.ai/contract';
import type { Rpc } from './rpc.ts';

/** What sessions find in their home folder, and what runs in them first: of the key pair, unless another owner is named. */
export interface DotfileClient {
  list(owner?: DotfileOwner): Promise<DotfileView[]>;
  /** @throws AppError `object-not-found` */
  get(path: string, owner?: DotfileOwner): Promise<DotfileView>;
  /** @throws AppError `object-exists` */
  create(file: WriteDotfileInput): Promise<void>;
  modify(file: WriteDotfileInput): Promise<void>;
  delete(path: string, owner?: DotfileOwner): Promise<void>;
  /** Of the key pair; empty when there is none. */
  bootstrapScript(): Promise<string>;
  /** For sessions that name none; empty: there is none any more. */
  setBootstrapScript(script: string): Promise<void>;
}

export function createDotfileClient({ dotfile }: Rpc): DotfileClient {
  return {
    list: (owner) => dotfile.list.query(owner ? { owner } : {}),
    get: (path, owner) => dotfile.get.query({ path, ...(owner ? { owner } : {}) }),
    create: (file) => dotfile.create.mutate(file),
    modify: (file) => dotfile.modify.mutate(file),
    delete: (path, owner) => dotfile.delete.mutate({ path, ...(owner ? { owner } : {}) }),
    bootstrapScript: async () => (await dotfile.bootstrapScript.query()).script,
    setBootstrapScript: (script) => dotfile.setBootstrapScript.mutate({ script }),
  };
}

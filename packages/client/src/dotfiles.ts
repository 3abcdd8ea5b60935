import type { DotfileView, WriteDotfileInput } from '@backend.ai/contract';
import type { Rpc } from './rpc.ts';

/** What sessions find in their home folder, and what runs in them first: of the key pair, whenever they start. */
export interface DotfileClient {
  list(): Promise<DotfileView[]>;
  /** @throws AppError `object-not-found` */
  get(path: string): Promise<DotfileView>;
  /** @throws AppError `object-exists` */
  create(file: WriteDotfileInput): Promise<void>;
  modify(file: WriteDotfileInput): Promise<void>;
  delete(path: string): Promise<void>;
  /** Empty when there is none. */
  bootstrapScript(): Promise<string>;
  /** For sessions that name none; empty: there is none any more. */
  setBootstrapScript(script: string): Promise<void>;
}

export function createDotfileClient({ dotfile }: Rpc): DotfileClient {
  return {
    list: () => dotfile.list.query(),
    get: (path) => dotfile.get.query({ path }),
    create: (file) => dotfile.create.mutate(file),
    modify: (file) => dotfile.modify.mutate(file),
    delete: (path) => dotfile.delete.mutate({ path }),
    bootstrapScript: async () => (await dotfile.bootstrapScript.query()).script,
    setBootstrapScript: (script) => dotfile.setBootstrapScript.mutate({ script }),
  };
}

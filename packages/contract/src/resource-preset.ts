import { z } from 'zod';
import { type CallContext, procedureFor, router } from './link.ts';
import { resourceNameSchema } from './resource-policy.ts';
import { inputLimits, plainText } from './text.ts';

/** Presets: amounts to choose from when a session is made, and whether there is room for them now. */

const slots = z
  .record(plainText(inputLimits.slot).min(1), z.union([plainText(inputLimits.slot), z.number()]))
  .refine((map) => Object.keys(map).length <= inputLimits.slots, `must have at most ${inputLimits.slots} entries`);
const sharedMemory = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).nullable();

export const createPresetSchema = z.strictObject({
  name: resourceNameSchema,
  /** Absent: of all groups. A name may stand once there and once in each group. */
  resourceGroup: resourceNameSchema.nullable().default(null),
  resourceSlots: slots,
  /** Bytes. */
  sharedMemory: sharedMemory.default(null),
});
export const presetIdSchema = z.strictObject({ id: z.uuid() });
export const modifyPresetSchema = z
  .strictObject({ name: resourceNameSchema, resourceSlots: slots, sharedMemory })
  .partial()
  .extend({ id: z.uuid() });
export const listPresetsSchema = z.strictObject({
  /** With those of this group; absent: only those of all groups. */
  resourceGroup: plainText(inputLimits.name).min(1).optional(),
});
export const checkPresetsSchema = z.strictObject({
  /** Absent: every group that the caller may use. */
  resourceGroup: plainText(inputLimits.name).min(1).optional(),
  /** Absent: the caller's only project, or the one called `default`. */
  project: plainText(inputLimits.name).min(1).optional(),
});

export type CreatePresetInput = z.infer<typeof createPresetSchema>;
export type ModifyPresetInput = z.infer<typeof modifyPresetSchema>;
export type ListPresetsInput = z.infer<typeof listPresetsSchema>;
export type CheckPresetsInput = z.infer<typeof checkPresetsSchema>;

export interface PresetView {
  readonly id: string;
  readonly name: string;
  readonly resourceGroup: string | null;
  readonly resourceSlots: Record<string, string>;
  readonly sharedMemory: number | null;
}

/** Amounts by slot; `Infinity` is without limit. */
export interface Room {
  readonly limits: Record<string, string>;
  readonly using: Record<string, string>;
  readonly remaining: Record<string, string>;
}

export interface PresetCheck {
  readonly keypair: Room;
  readonly user: Room;
  readonly project: Room;
  readonly domain: Room;
  /** Of agents that are ALIVE and take sessions. */
  readonly resourceGroups: Record<
    string,
    { readonly using: Record<string, string>; readonly remaining: Record<string, string> }
  >;
  readonly presets: ReadonlyArray<
    PresetView & {
      /** A session of one kernel with these amounts would start now, in one of the groups. */
      readonly allocatable: boolean;
      /** In which. */
      readonly allocatableIn: readonly string[];
    }
  >;
}

export interface ResourcePresetApi {
  list(input: ListPresetsInput, ctx: CallContext): Promise<PresetView[]>;
  check(input: CheckPresetsInput, ctx: CallContext): Promise<PresetCheck>;
}

export interface ResourcePresetAdminApi {
  /** Of all groups. */
  list(ctx: CallContext): Promise<PresetView[]>;
  create(input: CreatePresetInput, ctx: CallContext): Promise<PresetView>;
  modify(input: ModifyPresetInput, ctx: CallContext): Promise<PresetView>;
  delete(input: { id: string }, ctx: CallContext): Promise<void>;
}

export function createResourcePresetRouter(presets: ResourcePresetApi) {
  return router({
    list: procedureFor('resource-preset:read')
      .input(listPresetsSchema)
      .query(({ input, ctx }) => presets.list(input, ctx)),
    check: procedureFor('resource-preset:check')
      .input(checkPresetsSchema)
      .query(({ input, ctx }) => presets.check(input, ctx)),
  });
}

export function createResourcePresetAdminRouter(presets: ResourcePresetAdminApi) {
  const modify = procedureFor('resource-preset:modify');
  return router({
    list: modify.query(({ ctx }) => presets.list(ctx)),
    create: modify.input(createPresetSchema).mutation(({ input, ctx }) => presets.create(input, ctx)),
    modify: modify.input(modifyPresetSchema).mutation(({ input, ctx }) => presets.modify(input, ctx)),
    delete: modify.input(presetIdSchema).mutation(({ input, ctx }) => presets.delete(input, ctx)),
  });
}

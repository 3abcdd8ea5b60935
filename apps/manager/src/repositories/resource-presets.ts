import type { PresetView } from '@backend.ai/contract';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

const columns = sql.raw(`
  id, name, resource_group as "resourceGroup", resource_slots as "resourceSlots", shared_memory::float8 as "sharedMemory"`);

/** Without `id`. */
export type PresetValues = Omit<PresetView, 'id'>;

export class ResourcePresetRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Of all groups, and of those that are named; everything without `groups`. */
  async list(groups?: readonly string[]): Promise<PresetView[]> {
    const named = groups === undefined ? null : JSON.stringify(groups);
    const rows = await this.#db.execute<PresetView & Record<string, unknown>>(sql`
      select ${columns} from resource_presets
      where ${named}::jsonb is null or resource_group is null or ${named}::jsonb ? resource_group
      order by resource_group nulls first, name`);
    return [...rows];
  }

  /** @throws the database's `uniqueViolation`, or `foreignKeyViolation` for a group that is not there */
  async create(id: string, preset: PresetValues): Promise<PresetView> {
    const [row] = await this.#db.execute<PresetView & Record<string, unknown>>(sql`
      insert into resource_presets (id, name, resource_group, resource_slots, shared_memory)
      values (${id}::uuid, ${preset.name}, ${preset.resourceGroup}, ${JSON.stringify(preset.resourceSlots)}::jsonb,
        ${preset.sharedMemory}::bigint)
      returning ${columns}`);
    return row!;
  }

  /** What is undefined stays. @throws the database's `uniqueViolation` */
  async modify(id: string, values: Partial<PresetValues>): Promise<PresetView | undefined> {
    const slots = values.resourceSlots ? JSON.stringify(values.resourceSlots) : null;
    const [row] = await this.#db.execute<PresetView & Record<string, unknown>>(sql`
      update resource_presets set name = coalesce(${values.name ?? null}::text, name),
        resource_slots = coalesce(${slots}::jsonb, resource_slots),
        shared_memory = case when ${values.sharedMemory !== undefined}::boolean
          then ${values.sharedMemory ?? null}::bigint else shared_memory end
      where id = ${id}::uuid returning ${columns}`);
    return row;
  }

  async delete(id: string): Promise<boolean> {
    return (await this.#db.execute(sql`delete from resource_presets where id = ${id}::uuid returning id`)).length > 0;
  }
}

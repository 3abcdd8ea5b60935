import { AppError } from '@backend.ai/core';
import type { Database } from '@backend.ai/database';
import { sql } from 'drizzle-orm';

/** Of whom images are made, and how many there may be. */
export interface CustomizedImageOwner {
  readonly userId: string;
  readonly email: string;
  /** 0: without limit. */
  readonly maxCustomizedImages: number;
}

export class CustomizedImageRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws AppError `object-not-found` */
  async find(userId: string): Promise<CustomizedImageOwner> {
    const [row] = await this.#db.execute<CustomizedImageOwner & Record<string, unknown>>(sql`
      select u.id as "userId", u.email, p.max_customized_image_count as "maxCustomizedImages"
      from users u join user_resource_policies p on p.name = u.resource_policy where u.id = ${userId}::uuid`);
    if (!row) throw new AppError('object-not-found', 'The owner of the session does not exist any more.');
    return row;
  }
}

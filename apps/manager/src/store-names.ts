/** The servers of managers, as people call them. */
export const storeNames = { database: 'PostgreSQL', redis: 'Redis', etcd: 'etcd' } as const;

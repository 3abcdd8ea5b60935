/**
 * What commands that begin with the same words are for. In one place, because help is made of classes of commands, and
 * none of them is its group.
 */
const purposes: Readonly<Record<string, string>> = {
  session: 'Make sessions, run programs in them, look at them, and end them',
  'session-template': 'Keep descriptions of sessions, to make sessions of them',
  dotfile: 'Keep files that your sessions find in their home folder',
  'bootstrap-script': 'Keep a script that your sessions begin with',
  image: 'See what sessions can be made of, and keep that list in order',
  'scaling-group': 'See the resource groups that you may use',
  'resource-group': 'See the resource groups that you may use',
  'resource-preset': 'See amounts of resources that are often asked for',
  admin: 'Administer users, resources, images and agents of the cluster, over its API',
  'admin image': 'See what sessions can be made of, and keep that list in order',
  'admin domain': 'Administer domains: the tenants of the cluster',
  'admin group': 'Administer groups (projects) and their members',
  'admin project': 'Administer projects and their members',
  'admin user': 'Administer users',
  'admin keypair': 'Administer the key pairs by which users get in',
  'admin audit': 'See who changed what',
  'admin registry': 'Administer the registries that images come from',
  'admin scaling-group': 'Administer groups of agents, and who may use them',
  'admin resource-group': 'Administer groups of agents, and who may use them',
  'admin keypair-resource-policy': 'Administer what key pairs may use',
  'admin user-resource-policy': 'Administer what users may have',
  'admin project-resource-policy': 'Administer what projects may have',
  'admin resource-preset': 'Administer amounts of resources that are often asked for',
  'admin agent': 'See agents, and keep them from new sessions',
  'admin warm-pool': 'Administer kernels that are started ahead',
  'admin resource': 'Report what projects used',
  ag: 'Run the agent of this machine, and see how it is',
  mgr: 'Run the manager, see how it is, and look after its installation',
  'mgr dbschema': 'See which version the schema of the database is, and bring it up to date',
  'mgr fixture': 'Load rows to begin with into an installation',
  'mgr peers': 'Say which components may connect to managers',
  'mgr installation-key': 'Replace the key by which secrets in the database are encrypted',
  'mgr etcd': 'See and change the settings that all managers share',
  'mgr scheduler': 'See what the scheduler did, and upon what it decides',
};

/** Of the group, in one line; undefined for one that nobody described. */
export function purposeOf(group: string): string | undefined {
  return (
    purposes[group] ?? (group.endsWith(' config') ? 'See what is configured and what is wrong with it' : undefined)
  );
}

export * from './client.ts';
export {
  generateIdentity,
  type JoiningPeer,
  loadOrCreateIdentity,
  type PeerDirectory,
  type PeerIdentity,
  pinnedKeys,
} from './identity.ts';
export * from './server.ts';

// The app in React.
import { StrictMode, useEffect, useMemo } from 'react';
import { createRoot } from 'react-dom/client';
import { PresenceProvider, useKicked, usePresence, usePresenceClient, useSelf } from 'presence-hub/react';
import { clientOf, ofList, ofOne, ofSelf, start } from './page.js';

const Self = () => <p id="self">{ofSelf(useSelf())}</p>;
const List = ({ users }) => <p id="list">{ofList(users, usePresence(users))}</p>;
const One = ({ user }) => <p id="one">{ofOne(user, usePresence(user))}</p>;
const Set = ({ client = usePresenceClient() }) => <button id="set" onClick={() => client.setStatus('busy')}>Set</button>;

function Kicked() {
  const kicked = useKicked();
  return kicked && <p id="kicked">{kicked.reason} <button id="here" onClick={kicked.loginHere}>Use here instead</button></p>;
}

export function App({ account, users, one, show }) {
  const client = useMemo(() => clientOf(account), [account]);
  useEffect(() => void (globalThis.mounts = (globalThis.mounts ?? 0) + 1), []);
  return (
    <PresenceProvider client={client}>
      <Self /><Kicked /><Set />
      {show && <><List users={[...users]} /><One user={one} /></>}
    </PresenceProvider>
  );
}

if (typeof document === 'object') {
  start((place) => {
    const root = createRoot(place);
    return { set: (props) => root.render(<StrictMode><App {...props} /></StrictMode>), unmount: () => root.unmount() };
  });
}
